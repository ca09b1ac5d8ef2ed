"""Task distributions: every one has `.sample(n, generator=g)` -> an `Episode`, or another named tuple of tensors, whose
tensors have a leading task axis T = n."""

from metalib.tasks.environments import MDP, Bandit, Bandits, MDPs, Navigation, Navigations
from metalib.tasks.few_shot import Classify, FewShot
from metalib.tasks.ordered import FixedEpisodes, Stream
from metalib.tasks.protocol import Tasks
from metalib.tasks.regression import LinearTasks, Sinusoids
from metalib.tasks.sham import Sham

__all__ = ["Tasks", "FewShot", "FixedEpisodes", "Classify", "LinearTasks", "Sinusoids", "Stream", "Sham",
           "Bandit", "Bandits", "MDP", "MDPs", "Navigation", "Navigations"]
