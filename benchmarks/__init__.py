"""Speed and memory beside other programs, and of one revision beside another.

som, desom, soae, somrl, memory    one subject each: cases, entrants, proof of equal work, prose
networks                           what the three deep subjects share
harness                            what all subjects share: turns, memory, page, figure, record
processors                         columns of a page by kind of processor, also from other machines
rounding                           what models learn with rounded products, beside exact ones
compare, worker                    this checkout beside another revision
"""
