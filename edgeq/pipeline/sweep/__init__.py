"""A sweep at work: its builds as tasks of an executor, what each came to, and the measurements that want quiet."""
