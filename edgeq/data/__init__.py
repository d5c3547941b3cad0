"""Images: labelled ones that only measure, and sets that only calibrate. Two types, so that they never mix."""
