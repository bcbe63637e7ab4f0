"""Whether a delegate of a phone takes a LiteRT file: operator by operator, and why not."""

from keras_kd.export.delegates.delegate import DELEGATES, TABLES, check_delegate
from keras_kd.export.delegates.result import DelegateCheck, OperatorCheck
from keras_kd.export.delegates.rules import Refusal, Rule, Table

__all__ = ["DELEGATES", "TABLES", "DelegateCheck", "OperatorCheck", "Refusal", "Rule", "Table", "check_delegate"]
