//! What happens between the matrix products: bias, residual and GELU, in place and in one pass.
//!
//! candle's own element-wise operations spread over a pool of threads that wait for each other
//! spinning, which on a machine full of engines costs more than it saves; its exact GELU evaluates
//! a double-precision error function for each element. These run on the caller's thread, and the
//! error function is a rational function of single precision that compilers turn into vector code,
//! within 1e-6 of the exact value (tested below).

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result};

/// `x -> x + bias` in each row.
pub(super) struct AddBias<'a>(pub(super) &'a [f32]);

/// `x -> gelu(x + bias)` in each row.
pub(super) struct BiasGelu<'a>(pub(super) &'a [f32]);

/// `x, y -> x + y + bias` in each row.
pub(super) struct AddRows<'a>(pub(super) &'a [f32]);

impl InplaceOp1 for AddBias<'_> {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        for row in changeable(storage, layout)?.chunks_exact_mut(self.0.len()) {
            for (x, bias) in row.iter_mut().zip(self.0) {
                *x += bias;
            }
        }
        Ok(())
    }
}

impl InplaceOp1 for BiasGelu<'_> {
    fn name(&self) -> &'static str {
        "bias-gelu"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        for row in changeable(storage, layout)?.chunks_exact_mut(self.0.len()) {
            for (x, bias) in row.iter_mut().zip(self.0) {
                *x = gelu(*x + bias);
            }
        }
        Ok(())
    }
}

impl InplaceOp2 for AddRows<'_> {
    fn name(&self) -> &'static str {
        "add-rows"
    }

    fn cpu_fwd(
        &self,
        storage: &mut CpuStorage,
        layout: &Layout,
        other: &CpuStorage,
        other_layout: &Layout,
    ) -> Result<()> {
        let (CpuStorage::F32(others), Some((start, end))) =
            (other, other_layout.contiguous_offsets())
        else {
            candle_core::bail!("rows of f32 must be contiguous")
        };
        let width = self.0.len();
        let others = others[start..end].chunks_exact(width);
        for (row, other) in changeable(storage, layout)?
            .chunks_exact_mut(width)
            .zip(others)
        {
            for ((x, y), bias) in row.iter_mut().zip(other).zip(self.0) {
                *x += y + bias;
            }
        }
        Ok(())
    }
}

/// The numbers of contiguous rows.
fn changeable<'s>(storage: &'s mut CpuStorage, layout: &Layout) -> Result<&'s mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => candle_core::bail!("rows of f32 must be contiguous"),
    }
}

/// `x Φ(x)`, Hendrycks and Gimpel, <https://arxiv.org/abs/1606.08415>.
#[inline]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The error function as the odd rational minimax approximation on [-4, 4] that Eigen and XLA use.
#[inline]
fn erf(x: f32) -> f32 {
    const ABOVE: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_3e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BELOW: [f32; 5] = [
        -1.456_607_2e-5,
        -2.133_740_6e-4,
        -1.682_827_e-3,
        -7.373_329_2e-3,
        -1.426_474e-2,
    ];
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let horner = |sum: f32, c: &f32| sum * square + c;
    x * ABOVE.iter().fold(0.0, horner) / BELOW.iter().fold(0.0, horner)
}

#[cfg(test)]
mod tests {
    use super::{erf, gelu};

    #[test]
    fn error_function_is_exact_to_single_precision() {
        for step in -60_000_i32..=60_000 {
            let x = f64::from(step) * 1e-4;
            let exact = candle_core::cpu::erf::erf_f64(x);
            let here = f64::from(erf(x as f32));
            assert!(
                (here - exact).abs() < 1e-6,
                "erf({x}) = {here}, exactly {exact}"
            );
        }
    }

    #[test]
    fn gelu_leaves_large_values_and_drops_small_ones() {
        assert!((gelu(30.0) - 30.0).abs() < 1e-5);
        assert!(gelu(-30.0).abs() < 1e-5);
        assert!((gelu(1.0) - 0.841_344_7).abs() < 1e-6);
    }
}
