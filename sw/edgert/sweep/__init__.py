"""Many simulations, or other computations, each kept under the hash of all that determines it.

    from edgert.sweep import Cell, Store, run
    cells = [Cell("edgert.sweep.cells:simulate", {"policy": "default", "seed": seed, "frames": 5000}, {"scenario": scenario})
             for seed in range(20)]
    with Store("results.db") as store:
        for result in run(cells, store, jobs=2):      # what the store has comes first, the rest as it is computed
            print(result.cell.params["seed"], result.value["utility"])
"""

from .execute import Result, run
from .store import Cell, Store

__all__ = ["Cell", "Result", "Store", "run"]
