"""docs/keras_faults.md lists the checks that there are, and every fault in scope has one."""

from tests.keras_faults import test_one_device, test_replicas
from tests.keras_faults.table import documented

# 2, 27 and 28 come with several workers, 15 to 18 with resume.
IN_SCOPE = {1, *range(3, 15), *range(19, 27), *range(29, 43)}


def test_the_page_and_the_checks_agree():
    tables = (test_one_device.TABLE, test_replicas.TABLE)
    there = {(row.number, row.check.__name__) for table in tables for row in table.rows}
    assert documented() == there


def test_every_fault_in_scope_has_a_check():
    assert {number for number, _ in documented()} == IN_SCOPE
