"""The float graph: edgeq's one intermediate representation, how it is captured, run and rewritten.

`ir` and `ops` are plain data and import no torch, so that writers and the reference can use them; `capture`, `run`
and `passes` are where torch lives.
"""
