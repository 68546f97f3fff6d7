"""The policy: bits of weights and input activations per layer, and the network they belong to."""

from gmpq.policy.policy import MOST_BITS as MOST_BITS
from gmpq.policy.policy import CalibrationSpec as CalibrationSpec
from gmpq.policy.policy import InputSpec as InputSpec
from gmpq.policy.policy import LayerBits as LayerBits
from gmpq.policy.policy import ModelSpec as ModelSpec
from gmpq.policy.policy import Policy as Policy
from gmpq.policy.policy import Provenance as Provenance
from gmpq.policy.policy import bind as bind
from gmpq.policy.policy import bits_of as bits_of
from gmpq.policy.policy import check_bits as check_bits
from gmpq.policy.policy import differing_calls as differing_calls
