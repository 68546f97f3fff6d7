"""Which bits every layer gets: losses per layer and bits, and the best choice under bounds.

space = ...            # gmpq.search.space: the layers, and the bits that each may have
indicators = ...       # gmpq.search.sensitivity or gmpq.search.limpq: what bits cost in quality
choice = indicators.choice(alpha)
picks = solve(choice, (bops(space, 15.3e9),))       # gmpq.search.program, gmpq.search.rows
"""
