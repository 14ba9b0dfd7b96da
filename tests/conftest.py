from hypothesis import settings

settings.register_profile("ddpm", deadline=None)  # a busy machine is slow, and no fault of the package
settings.load_profile("ddpm")
