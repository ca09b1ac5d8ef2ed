"""Task distributions: every one has `.sample(n, generator=g) -> Episode` with a leading task axis T = n."""

from metalib.tasks.few_shot import Classify, FewShot
from metalib.tasks.protocol import Tasks
from metalib.tasks.sinusoids import Sinusoids

__all__ = ["Tasks", "FewShot", "Classify", "Sinusoids"]
