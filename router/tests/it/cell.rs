//! The cell against the published FastGRNN test vectors (`shared/data/fastgrnn`, above the checkout).

use serde::Deserialize;
use weir_router::cell::{Cell, expand_low_rank};

#[derive(Deserialize)]
#[expect(non_snake_case, reason = "names of the published file")]
struct Reference {
    USPS_mean: Vec<f32>,
    USPS_stdDev: Vec<f32>,
    USPS_W1: Vec<f32>,
    USPS_W2: Vec<f32>,
    USPS_U1: Vec<f32>,
    USPS_U2: Vec<f32>,
    USPS_Bg: Vec<f32>,
    USPS_Bh: Vec<f32>,
    FC_weights: Vec<f32>,
    FCbias: Vec<f32>,
    input: Vec<f32>,
    labels: Vec<usize>,
    sigmoid_zeta: f32,
    sigmoid_nu: f32,
}

const INPUTS: usize = 16;
const HIDDEN: usize = 32;
const RANK: usize = 5;

/// Row-major `rows` x `columns` to `columns` x `rows`.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let column = |column: usize| values.iter().skip(column).step_by(columns).copied();
    (0..columns).flat_map(column).collect()
}

#[test]
fn reference_digits_are_classified_10_of_10_and_the_state_agrees_to_1e_5() {
    let Some(file) = weir_testenv::shared_data("fastgrnn/usps_c_test.json") else {
        return;
    };
    let text = std::fs::read_to_string(file).unwrap();
    let reference: Reference = serde_json::from_str(&text).unwrap();
    // The file holds W1 as rank x inputs and W2 as hidden x rank; the cell wants inputs x hidden.
    let dense = |first: &[f32], second: &[f32], inputs: usize| {
        expand_low_rank(&transposed(first, inputs), &transposed(second, RANK), RANK)
    };
    let cell = Cell {
        w: dense(&reference.USPS_W1, &reference.USPS_W2, INPUTS),
        u: dense(&reference.USPS_U1, &reference.USPS_U2, HIDDEN),
        gate_bias: reference.USPS_Bg.clone(),
        candidate_bias: reference.USPS_Bh.clone(),
        zeta: reference.sigmoid_zeta,
        nu: reference.sigmoid_nu,
    };
    let classes = reference.FCbias.len();
    for (digit, label) in reference.labels.iter().enumerate() {
        let mut state = [0.0; HIDDEN];
        let pixels = &reference.input[digit * INPUTS * 16..][..INPUTS * 16];
        for (row, values) in pixels.chunks_exact(INPUTS).enumerate() {
            let normalised = values.iter().enumerate().map(|(column, value)| {
                let at = row * INPUTS + column;
                (
                    column,
                    (value - reference.USPS_mean[at]) / reference.USPS_stdDev[at],
                )
            });
            cell.step(normalised, &mut state);
        }
        if digit == 0 {
            let expected = [-0.021_950_63, 0.234_165_49, -0.951_678_7, -0.570_084_17];
            for (found, expected) in state.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{found} but the reference {expected}"
                );
            }
        }
        let scores = reference
            .FC_weights
            .chunks_exact(HIDDEN)
            .zip(&reference.FCbias);
        let scores: Vec<f32> = scores
            .map(|(row, bias)| bias + row.iter().zip(&state).map(|(w, h)| w * h).sum::<f32>())
            .collect();
        let best = (0..classes)
            .max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
            .unwrap();
        assert_eq!(best, *label, "digit {digit}");
    }
}
