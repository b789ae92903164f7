"""Names cells by decoupler's ULM; run by the interpreter of an environment that holds decoupler 2 and anndata."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anndata
import decoupler
import numpy as np
import pandas as pd
import scipy.sparse as sp

folder = Path(sys.argv[1])
told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
counts = sp.load_npz(folder / "counts.npz").astype(np.float32)
rates = sp.diags(1e4 / np.maximum(np.array(told["totals"], dtype=np.float32), 1)) @ counts
cells = anndata.AnnData(sp.csr_matrix(rates), var=pd.DataFrame(index=told["genes"]))
cells.X.data = np.log1p(cells.X.data)
net = pd.DataFrame(told["net"], columns=["source", "target", "weight"])
kept = decoupler.mt.ulm(cells, net, tmin=2)  # other cells than were given if some show no gene of the net
scores = (cells if kept is None else kept).obsm["score_ulm"]
best = pd.Series(scores.columns[np.nanargmax(scores.to_numpy(), axis=1)], index=scores.index)
names = best.reindex(cells.obs_names).astype(object).where(lambda found: found.notna(), None)
(folder / "names.json").write_text(json.dumps(names.tolist()), encoding="utf-8")
