"""Published values are refused where one cannot be what it says."""

import math

import pytest

from echo_jax.evaluation.published import read_published
from echo_jax.targets import TARGETS

HEADER = (
  "table,model,metric,value,unit,low,high,n,positive,protocol,mark,source,note"
)
GOOD = "ef,Ours,mae,3.90,%,3.7,4.1,1277,,test,paper,doi:10.1/x,"
TABLES = {"ef": TARGETS["ef_pct"], "low": TARGETS["ef_below_50"],
          "edv": TARGETS["edv_ml"]}  # fmt: skip


@pytest.fixture
def read(tmp_path):
  def read(*lines, header=HEADER):
    path = tmp_path / "published.csv"
    path.write_text("\n".join([header, *lines, ""]))
    return read_published(path, TABLES)

  return read


def test_values_are_read_as_they_were_written(read):
  first, second, third = read(
    GOOD, "low,Ours,f1,0.941,,,,,EF at least 50 %,test,paper,https://a/b,no",
    "edv,Ours,rmse,0.2,ln ml,,,,,test,log,doi:10.1/x,",
  )  # fmt: skip
  assert first.value_text == "3.90 % (3.7 to 4.1)" and first.n == 1277
  assert second.value_text == "0.941" and math.isnan(second.low)
  assert second.positive == "EF at least 50 %" and second.n == 0
  assert third.value_text == "0.2 ln ml"


@pytest.mark.parametrize(
  ("line", "says"),
  [
    (GOOD.replace("doi:10.1/x", ""), "source is ''"),
    (GOOD.replace("doi:10.1/x", "doi:"), "source is 'doi:'"),
    (GOOD.replace("doi:10.1/x", "a paper"), "source is 'a paper'"),
    (GOOD.replace("mae", "auroc"), "ef_pct has no metric 'auroc'"),
    (GOOD.replace(",%,", ",ml,"), "mae is in 'ml'"),
    (GOOD.replace(",%,", ",,"), "mae is in ''"),
    (GOOD.replace("mae,3.90,%,3.7,4.1", "r2,0.8,%,,"), "r2 is in '%'"),
    (GOOD.replace("mae,3.90,%,3.7,4.1", "r2,82,,,"), "r2 is 82: no such"),
    (GOOD.replace("3.90,%,3.7,4.1", "-3.9,%,,"), "mae is -3.9: no such"),
    (GOOD.replace("3.90", ""), "mae is nan"),
    (GOOD.replace("3.90", "low"), "could not convert"),
    (GOOD.replace("4.1", "3.8"), "3.7 to 3.8 does not hold 3.9"),
    (GOOD.replace("4.1", ""), "3.7 to nan does not hold 3.9"),
    (GOOD.replace("paper", "memory"), "mark is 'memory'"),
    (GOOD.replace(",test,", ",,"), "model or protocol is empty"),
    (GOOD.replace("ef,", "lvef,", 1), "no table 'lvef'"),
    (GOOD + ",more", "too many or too few cells"),
    ("ef,Ours", "too many or too few cells"),
  ],
)
def test_what_cannot_be_is_refused_with_its_line(read, line, says):
  other = GOOD.replace("Ours", "Another")
  with pytest.raises(ValueError, match=f"published.csv, line 3: .*{says}"):
    read(other, line)


def test_a_value_twice_is_refused_and_another_protocol_is_another(read):
  assert len(read(GOOD, GOOD.replace("test", "validation"))) == 2
  with pytest.raises(ValueError, match="ef, Ours, mae, test, .* already"):
    read(GOOD, GOOD.replace("3.90", "3.80"))


def test_other_columns_are_refused(read):
  with pytest.raises(ValueError, match="columns are"):
    read(GOOD, header=HEADER.replace("source", "url"))
