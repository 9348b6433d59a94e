"""The run-time type checker of the tests: beartype, with Python's own rule that an int may stand for a float."""

import beartype

check = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
