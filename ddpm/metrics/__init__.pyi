from .copies import Copying as Copying
from .copies import copying as copying
from .distances import Distance as Distance
from .distances import frechet_distance as frechet_distance
from .distances import kernel_distance as kernel_distance
from .precision_recall import precision_and_recall as precision_and_recall
