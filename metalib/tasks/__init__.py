"""Task distributions: every one has `.sample(n, generator=g)` -> an `Episode`, or another named tuple of tensors, whose
tensors have a leading task axis T = n."""

from metalib.tasks.environments import MDP, Bandit, Bandits, MDPs, Navigation, Navigations
from metalib.tasks.few_shot import Classify, FewShot
from metalib.tasks.fixed import FixedEpisodes
from metalib.tasks.protocol import Tasks
from metalib.tasks.regression import LinearTasks, Sinusoids
from metalib.tasks.streams import Stream

__all__ = ["Tasks", "FewShot", "FixedEpisodes", "Classify", "LinearTasks", "Sinusoids", "Stream",
           "Bandit", "Bandits", "MDP", "MDPs", "Navigation", "Navigations"]
