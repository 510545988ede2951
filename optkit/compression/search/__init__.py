"""`optkit search`: a study over the fields of a compression recipe, with several objectives."""
