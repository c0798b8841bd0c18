"""diffusion: objectives, schedules and samplers of diffusion models, by hand."""
