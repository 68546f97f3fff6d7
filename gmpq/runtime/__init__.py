"""Running a compiled network with numpy alone.

network = gmpq.runtime.load("resnet18-native")
logits = network.run(image)          # float32 [1, 3, 224, 224] to float32 [1, 1000]
"""

from gmpq.runtime.arrays import Floats as Floats
from gmpq.runtime.cuda import CudaNetwork as CudaNetwork
from gmpq.runtime.cuda import load_cuda as load_cuda
from gmpq.runtime.network import UNWRITTEN as UNWRITTEN
from gmpq.runtime.network import Network as Network
from gmpq.runtime.network import load as load
