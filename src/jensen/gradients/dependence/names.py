"""Names of tensor operations by how they let latents flow from arguments to results."""

from __future__ import annotations

__all__ = [
    "ALONG",
    "DYNAMIC",
    "ELEMENTWISE",
    "LIKE",
    "MATRIX",
    "METADATA",
    "MOVES",
    "OPERATORS",
    "PRODUCTS",
    "REDUCTIONS",
    "SAME",
    "SCATTERS",
]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


METADATA = _names(
    """
    shape size dim ndim ndimension numel nelement __len__ dtype device layout itemsize element_size nbytes
    stride storage_offset is_contiguous is_floating_point is_complex is_signed is_inference is_leaf requires_grad
    grad_fn names is_cuda is_cpu is_mps is_meta is_sparse is_sparse_csr is_quantized is_nested get_device
    is_conj is_neg is_pinned is_same_size is_tensor is_storage _version output_nr retains_grad has_names result_type
    broadcast_shapes can_cast iinfo finfo _is_view is_shared
    """
)
"""What says nothing of a tensor's values."""

OPERATORS = _names("add sub mul div truediv floordiv mod pow and or xor lshift rshift matmul")
"""The operators of Python that have a reflected (`__radd__`) and an in-place form (`__iadd__`)."""

ELEMENTWISE = _names(
    """
    add sub mul div truediv floordiv mod pow and or xor lshift rshift neg __neg__ __pos__ __abs__ __invert__
    eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ greater greater_equal less less_equal not_equal isclose
    acos acosh angle asin asinh atan atan2 atanh ceil copysign cos cosh erf erfc exp expm1 floor fmod frexp gcd
    isfinite isinf isnan isreal ldexp lgamma log log10 log1p masked_fill remainder round rsub sin sinh sqrt tan tanh
    true_divide floor_divide float_power absolute negative arccos arccosh arcsin arcsinh arctan arctan2 arctanh
    multiply subtract divide fix real copy
    special_digamma special_entr special_erf special_erfc special_erfinv special_exp2 special_expit special_expm1
    special_gammainc special_gammaincc special_gammaln special_i0 special_log1p special_logit special_multigammaln
    special_ndtr special_polygamma special_psi special_round special_sinc special_xlogy
    logsigmoid log_sigmoid softsign tanhshrink hardswish
    binary_cross_entropy binary_cross_entropy_with_logits mse_loss l1_loss smooth_l1_loss huber_loss poisson_nll_loss
    """
)
"""Beside those that PyTorch marks as pointwise. Losses only without a reduction, as their shape then shows."""

SAME = _names(
    """
    to type type_as float double half bfloat16 int long short char byte bool cpu cuda clone contiguous detach data
    alias requires_grad_ asarray
    """
)

LIKE = _names(
    """
    zeros_like ones_like full_like empty_like rand_like randn_like randint_like new_zeros new_ones new_full new_empty
    new_tensor
    """
)

MOVES = _names(
    """
    view reshape view_as reshape_as flatten unflatten ravel squeeze unsqueeze transpose t T mT H mH permute movedim
    moveaxis swapaxes swapdims adjoint expand expand_as broadcast_to broadcast_tensors atleast_1d atleast_2d atleast_3d
    cat concat concatenate stack hstack vstack dstack column_stack row_stack select narrow unbind split chunk
    tensor_split hsplit vsplit dsplit split_with_sizes unfold diagonal diag diag_embed diagflat tril triu repeat tile
    flip fliplr flipud roll rot90 meshgrid block_diag
    """
)

PRODUCTS = _names(
    "matmul mm bmm mv dot inner outer ger einsum tensordot linear addmm addmv addbmm baddbmm bilinear vecdot kron"
    " linalg_vecdot linalg_matmul chain_matmul linalg_multi_dot"
)
"""Linear in each argument, with coefficients that cannot cancel."""

REDUCTIONS = dict.fromkeys(
    _names(
        """
        sum nansum mean nanmean prod logsumexp special_logsumexp amax amin max min aminmax argmax argmin any all median
        nanmedian mode _is_all_true var std var_mean std_mean count_nonzero
        """
    ),
    1,
) | dict.fromkeys(_names("norm linalg_norm linalg_vector_norm quantile nanquantile kthvalue"), 2)
"""With the place of the argument that says along which dimensions."""

ALONG: dict[str, tuple[int, int | None]] = {
    "softmax": (1, None),
    "log_softmax": (1, None),
    "special_softmax": (1, None),
    "special_log_softmax": (1, None),
    "softmin": (1, None),
    "cumsum": (1, None),
    "cumprod": (1, None),
    "logcumsumexp": (1, None),
    "cummax": (1, None),
    "cummin": (1, None),
    "sort": (1, -1),
    "msort": (1, 0),
    "argsort": (1, -1),
    "topk": (2, -1),
    "diff": (2, -1),
    "normalize": (2, 1),
}
"""With the place of their dimension, and which it is where none is given."""

SCATTERS = _names("scatter scatter_add scatter_reduce")

MATRIX = _names(
    """
    cholesky linalg_cholesky linalg_cholesky_ex cholesky_inverse inverse linalg_inv linalg_inv_ex det linalg_det logdet
    slogdet linalg_slogdet linalg_eigvalsh linalg_eigh matrix_exp linalg_matrix_exp
    """
)

DYNAMIC = _names(
    """
    nonzero argwhere masked_select unique unique_consecutive bincount repeat_interleave histogram combinations
    linalg_lstsq lstsq ctc_loss apply map map2
    """
)
"""The shape of the result depends on values, or a Python function sees them."""
