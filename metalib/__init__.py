"""metalib: a small library of meta-learning, and the code that the book runs.

The public names, in reading order. A meta-learner is a function from a small data set to a predictor:

    phi = learner.adapt(support);   y_hat = learner.predict(phi, x);   loss = learner(episode)
"""

from metalib.episode import Data, Episode  # isort: skip
from metalib.distributions import Normal  # isort: skip
from metalib.data import ClassData, ClassImages, ClassTexts, Vocabulary  # isort: skip
from metalib.data import glyphs, omniglot, pictograms, digits, medmnist, bccd, phantoms  # isort: skip
from metalib.data import clinc150, out_of_scope, languages  # isort: skip
from metalib.tasks import Classify, FewShot, FixedEpisodes, LinearTasks, Sham, Sinusoids, Stream  # isort: skip
from metalib.tasks.ordered import moved  # isort: skip
from metalib.tasks import MDP, Bandit, Bandits, MDPs, Navigation, Navigations  # isort: skip
from metalib.nets import WithContext, conv4, mlp  # isort: skip
from metalib.learner import Learner, meta_gradient  # isort: skip
from metalib.learners import (  # isort: skip
    MAML, FOMAML, ANIL, MetaSGD, Reptile, ImplicitMAML, RidgeHead, LogisticHead, MatchingNet, RelationNet,
    NeuralProcess, SequenceLearner, BayesLinear, DeepKernelGP, LaplaceMAML, RL2, PolicyMAML, BanditRule,
    PixelFloor, Pretrained, ProtoNet,
)
from metalib.training.config import History, TrainConfig  # isort: skip
from metalib.training.train import meta_train, training_episodes  # isort: skip
from metalib.training.online import hindsight, meta_online, regret  # isort: skip
from metalib.training.distributed import process_group, rank  # isort: skip
from metalib.judging.metrics import Metric, coverage  # isort: skip
from metalib.judging.diagnosis import auroc, balanced_accuracy, calibration_error  # isort: skip
from metalib.judging.evaluate import Score, compare, meta_test, meta_test_path  # isort: skip
from metalib.judging.audit import Audit, audit  # isort: skip
from metalib.judging.overlap import shared_episodes  # isort: skip
from metalib.judging.certify import Certificate, certify_gradient  # isort: skip
from metalib.training.checkpoint import load, save  # isort: skip
from metalib.judging.published import check  # isort: skip
from metalib.judging.records import checkpoint, record, records  # isort: skip
from metalib.functional import seeded  # isort: skip
from metalib.figures import plot  # isort: skip
from metalib.figures.show import show  # isort: skip
from metalib.figures.table import table  # isort: skip

__version__ = "0.1.0"

__all__ = [
    "Data", "Episode", "Normal", "ClassData", "ClassImages", "ClassTexts", "Vocabulary",
    "glyphs", "omniglot", "pictograms", "digits", "medmnist", "bccd", "phantoms",
    "clinc150", "out_of_scope", "languages",
    "FewShot", "FixedEpisodes", "Sinusoids", "LinearTasks", "Classify", "Stream", "moved", "Sham",
    "mlp", "conv4", "WithContext",
    "Learner", "meta_gradient", "MAML", "FOMAML", "ANIL", "MetaSGD", "Reptile", "ImplicitMAML",
    "ProtoNet", "MatchingNet", "RelationNet", "RidgeHead", "LogisticHead", "Pretrained", "PixelFloor",
    "NeuralProcess", "SequenceLearner", "BayesLinear", "DeepKernelGP", "LaplaceMAML",
    "Bandit", "Bandits", "MDP", "MDPs", "Navigation", "Navigations", "RL2", "PolicyMAML", "BanditRule",
    "TrainConfig", "meta_train", "History", "training_episodes", "process_group", "rank",
    "meta_online", "hindsight", "regret",
    "meta_test", "meta_test_path", "Score", "Metric", "coverage",
    "balanced_accuracy", "auroc", "calibration_error", "compare", "audit", "Audit", "shared_episodes",
    "certify_gradient", "Certificate", "save", "load", "check", "record", "records", "checkpoint",
    "seeded", "show", "table", "plot",
]
