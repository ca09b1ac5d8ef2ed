"""The families, one a file: each is two functions, `adapt` and `predict`, and a loss."""

from metalib.learners.bandit import BanditRule
from metalib.learners.bayes import BayesLinear
from metalib.learners.head import LogisticHead, RidgeHead
from metalib.learners.implicit import ImplicitMAML
from metalib.learners.inner_loops import ANIL, Reptile
from metalib.learners.kernel import DeepKernelGP
from metalib.learners.laplace import LaplaceMAML
from metalib.learners.maml import FOMAML, MAML
from metalib.learners.matching import MatchingNet, RelationNet
from metalib.learners.metric import PixelFloor, Pretrained, ProtoNet
from metalib.learners.policy import RL2
from metalib.learners.policy_gradient import PolicyMAML
from metalib.learners.process import NeuralProcess
from metalib.learners.rates import MetaSGD
from metalib.learners.sequence import SequenceLearner

__all__ = ["MAML", "FOMAML", "ANIL", "MetaSGD", "Reptile", "ImplicitMAML", "ProtoNet", "MatchingNet", "RelationNet",
           "RidgeHead", "LogisticHead", "Pretrained", "PixelFloor", "NeuralProcess", "SequenceLearner", "BayesLinear",
           "DeepKernelGP", "LaplaceMAML", "RL2", "PolicyMAML", "BanditRule"]
