"""Trainings in a row: with assistants between teacher and student, over generations, or in lottery-ticket rounds."""

from keras_kd.chain.distilling import born_again, distill_chain
from keras_kd.chain.lottery import LotteryTicket, lottery_ticket
from keras_kd.chain.result import Chain, TrainingRecord

__all__ = ["Chain", "LotteryTicket", "TrainingRecord", "born_again", "distill_chain", "lottery_ticket"]
