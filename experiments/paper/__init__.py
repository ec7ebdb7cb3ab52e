"""The paper's tables and the recipes of its neighbours, a file each."""
