"""Which bits every layer gets: losses per layer and bits, and the best choice under bounds.

space = ...            # gmpq.search.ilp.space: the layers, and the bits that each may have
indicators = ...       # gmpq.search.indicators.sensitivity or limpq: what bits cost in quality
losses = indicators.losses(alpha)
assignment = solve(losses, (bops(space, 15.3e9),))       # gmpq.search.ilp.solver, ilp.constraints
"""
