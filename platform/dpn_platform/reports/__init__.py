"""Reports: what studies, scored runs and routers did, as pages, pictures, tables and JSON. Draws, measures nothing."""
