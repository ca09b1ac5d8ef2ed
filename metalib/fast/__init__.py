"""Why it is quick: the block of `conv4`, task threads, compilation, precision, memory. Nothing here knows a learner."""
