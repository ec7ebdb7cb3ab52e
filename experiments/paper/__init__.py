"""The paper's tables, a file a row, and the recipes of its neighbours."""
