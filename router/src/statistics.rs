//! Distribution functions and the intervals made of them. Pure numbers, each with its source.

use std::f64::consts::PI;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Steps of a bisection; each halves the error.
const BISECTIONS: usize = 80;

/// ln of the gamma function for x > 0: Stirling's series (Abramowitz and Stegun 6.1.41) beyond 10, the recurrence
/// below it; exact to 1e-11.
pub(crate) fn ln_gamma(x: f64) -> f64 {
    let mut x = x;
    let mut shift = 0.0;
    while x < 10.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series =
        inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln() + series - shift
}

/// Standard normal distribution function, by the incomplete gamma function's continued fraction (Abramowitz and Stegun
/// 26.2.14) in the tails and its series (26.2.10) in the middle; exact to 1e-12.
pub fn normal_cdf(z: f64) -> f64 {
    let density = (-0.5 * z * z).exp() / (2.0 * PI).sqrt();
    if z.abs() > 3.0 {
        let mut fraction = 0.0;
        for k in (1..=60).rev() {
            fraction = f64::from(k) / (z.abs() + fraction);
        }
        let tail = density / (z.abs() + fraction);
        return if z < 0.0 { tail } else { 1.0 - tail };
    }
    let (mut term, mut sum) = (z, z);
    for k in 1..80 {
        term *= z * z / f64::from(2 * k + 1);
        sum += term;
    }
    0.5 + density * sum
}

/// The z that a standard normal number exceeds with probability 1 - `share`.
pub fn normal_quantile(share: f64) -> f64 {
    bisect(-40.0, 40.0, |z| normal_cdf(z) < share)
}

/// The quantile of Student's t with `freedom` degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.5.27).
pub fn student_quantile(share: f64, freedom: f64) -> f64 {
    let tail = |t: f64| {
        let outside = 0.5 * incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5);
        if t < 0.0 { outside } else { 1.0 - outside }
    };
    bisect(-1e4, 1e4, |t| tail(t) < share)
}

/// Clopper and Pearson (1934): the largest rate that `k` of `n` do not refuse at one-sided level `delta`.
pub fn rate_upper(k: u64, n: u64, delta: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    let (a, b) = (k as f64 + 1.0, (n - k) as f64);
    bisect(0.0, 1.0, |rate| incomplete_beta(rate, a, b) < 1.0 - delta)
}

/// The share of a beta distribution below `x`: the continued fraction of Abramowitz and Stegun 26.5.8, evaluated by
/// Lentz's method.
pub fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let ln_front = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p();
    if x < (a + 1.0) / (a + b + 2.0) {
        ln_front.exp() * beta_fraction(x, a, b) / a
    } else {
        1.0 - ln_front.exp() * beta_fraction(1.0 - x, b, a) / b
    }
}

fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        let change = d * c;
        fraction *= change;
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    fraction
}

/// Where a rising function stops to be `below`.
pub(crate) fn bisect(mut low: f64, mut high: f64, below: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..BISECTIONS {
        let middle = low.midpoint(high);
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low.midpoint(high)
}

/// A standard normal number by Box and Muller.
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, angle): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_gamma_function_is_exact_where_it_is_known() {
        for (x, expected) in [
            (1.0, 0.0),
            (2.0, 0.0),
            (5.0, 24.0_f64.ln()),
            (0.5, 0.5 * PI.ln()),
            (100.5, 361.435_540_467_777_6),
        ] {
            let found = ln_gamma(x);
            assert!((found - expected).abs() < 1e-9, "ln gamma({x}) = {found}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (share, z) in [
            (0.5, 0.0),
            (0.975, 1.959_963_985),
            (0.95, 1.644_853_627),
            (0.000_1, -3.719_016_485),
        ] {
            assert!((normal_quantile(share) - z).abs() < 1e-8, "{share}");
        }
        for (share, freedom, t) in [
            (0.975, 4.0, 2.776_445),
            (0.95, 10.0, 1.812_461),
            (0.025, 30.0, -2.042_272),
        ] {
            let found = student_quantile(share, freedom);
            assert!((found - t).abs() < 1e-5, "{found}");
        }
    }

    #[test]
    fn the_upper_rate_is_known_where_nothing_or_everything_happened() {
        for n in [1_u64, 10, 500] {
            let none = 1.0 - 0.1_f64.powf(1.0 / n as f64);
            assert!((rate_upper(0, n, 0.1) - none).abs() < 1e-9);
            assert_eq!(rate_upper(n, n, 0.1), 1.0);
        }
    }

    proptest! {
        #[test]
        fn the_beta_function_is_a_sum_of_binomial_terms(k in 0_u64..40, more in 1_u64..40, rate in 0.01_f64..0.99) {
            let n = k + more;
            let term = |i: u64| {
                let ways = ln_gamma(n as f64 + 1.0) - ln_gamma(i as f64 + 1.0) - ln_gamma((n - i) as f64 + 1.0);
                (ways + i as f64 * rate.ln() + (n - i) as f64 * (1.0 - rate).ln()).exp()
            };
            let at_most: f64 = (0..=k).map(term).sum();
            let beta = incomplete_beta(rate, k as f64 + 1.0, (n - k) as f64);
            prop_assert!((1.0 - beta - at_most).abs() < 1e-9);
            let bound = rate_upper(k, n, 0.1);
            let tail = 1.0 - incomplete_beta(bound, k as f64 + 1.0, (n - k) as f64);
            prop_assert!((tail - 0.1).abs() < 1e-9);
        }
    }
}
