//! The file: reads back, refuses what it must, agrees with a second engine.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tract_onnx::prelude::*;
use weir_router::artifact::BYTES_MAX;
use weir_router::{ArmTable, Artifact, ArtifactError};

fn trained() -> &'static Artifact {
    &crate::planted::trained().0
}

#[test]
fn a_trained_artifact_reads_back_and_stays_small() {
    let artifact = trained();
    let bytes = artifact.to_bytes();
    assert!(bytes.len() <= BYTES_MAX, "{} bytes", bytes.len());
    assert_eq!(Artifact::from_bytes(bytes).unwrap(), *artifact);
    let inspection = serde_json::to_value(artifact.inspect()).unwrap();
    assert_eq!(inspection["constant"], false);
    assert_eq!(inspection["arms"][2]["recall"], "vector");
}

/// Inputs that both engines are given.
const INPUTS: usize = 10_000;

#[test]
fn tract_agrees_with_the_native_evaluation_of_every_kind_to_1e_6() {
    for (kind, artifact) in crate::planted::trained_kinds() {
        let read = Artifact::from_bytes(artifact.to_bytes()).unwrap();
        assert_eq!(read, *artifact, "{kind:?}");
        let worst = greatest_difference(&read);
        assert!(worst <= 1e-6, "{kind:?}: {worst}");
    }
}

/// Of state and heads, relative where they are greater than 1.
fn greatest_difference(artifact: &Artifact) -> f32 {
    let network = artifact.network();
    let (columns, hidden) = (network.layout.width(), network.cell.hidden());
    let model = tract_onnx::onnx()
        .model_for_read(&mut artifact.to_bytes())
        .and_then(|model| model.into_optimized()?.into_runnable())
        .expect("tract reads the graph");
    let row = |values: &[f32]| -> TValue {
        tract_ndarray::Array2::from_shape_vec((1, values.len()), values.to_vec())
            .expect("one row")
            .into_tensor()
            .into()
    };
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let mut worst = 0.0_f32;
    for round in 0..INPUTS {
        let step = round % 4;
        let x: Vec<f32> = (0..columns).map(|_| rng.random_range(-2.0..2.0)).collect();
        let h: Vec<f32> = (0..hidden).map(|_| rng.random_range(-1.0..1.0)).collect();
        let mut one_hot = [0.0_f32; 4];
        one_hot[step] = 1.0;
        let inputs = tvec!(row(&x), row(&h), row(&one_hot));
        let outputs = model.run(inputs).expect("tract evaluates the graph");
        let mut state = h.clone();
        let input = x.iter().copied().enumerate().chain([(columns + step, 1.0)]);
        network.cell.step(input, &mut state);
        let heads: Vec<f32> = (0..network.heads.bias.len())
            .map(|head| network.heads.value(head, &state) as f32)
            .collect();
        for (output, native) in outputs.iter().zip([&state, &heads]) {
            let output = output.to_plain_array_view::<f32>().expect("floats");
            for (other, native) in output.iter().zip(native) {
                worst = worst.max((other - native).abs() / native.abs().max(1.0));
            }
        }
    }
    worst
}

#[test]
fn compressed_artifacts_say_how_and_are_as_small_as_they_say() {
    let kinds = crate::planted::trained_kinds();
    let (_, full) = &kinds[0];
    assert!(full.manifest().compression.is_none());
    let size = |artifact: &Artifact| {
        let constant = artifact.clone().with_manifest(|m| m.frozen.clear());
        constant.to_bytes().len()
    };
    for (kind, artifact) in &kinds[1..] {
        assert_eq!(artifact.manifest().compression, Some(*kind));
        let inspection = artifact.inspect();
        assert_eq!(inspection.compression, *kind);
        let zeros = inspection.zeros as f64 / inspection.entries as f64;
        assert!(zeros >= kind.sparsity, "{kind:?}: {zeros}");
        if kind.int8 || kind.rank_input.is_some() {
            assert!(size(artifact) < size(full), "{kind:?}");
        }
    }
}

#[test]
fn another_schema_is_refused_naming_the_features_that_differ() {
    let constant = || Artifact::constant(&ArmTable::standard(3), &[3.0; 15]);
    let changed = constant().with_manifest(|manifest| {
        manifest.schema_hash = "0".repeat(64);
        manifest.features[0].name = "query.moon_phase".to_owned();
        manifest.features[3].unit = "furlongs".to_owned();
    });
    let refused = Artifact::from_bytes(changed.to_bytes())
        .unwrap_err()
        .to_string();
    for name in [
        "query.moon_phase is not known here",
        "query.chars is absent",
        "query.sentences is defined differently",
    ] {
        assert!(refused.contains(name), "{refused}");
    }
}

#[test]
fn manifests_that_do_not_fit_the_network_are_refused() {
    let constant = || Artifact::constant(&ArmTable::standard(3), &[3.0; 15]);
    let refused = |artifact: Artifact| Artifact::from_bytes(artifact.to_bytes()).unwrap_err();
    let fewer_arms = refused(constant().with_manifest(|m| m.arms = ArmTable::standard(2)));
    assert!(
        matches!(fewer_arms, ArtifactError::Graph { .. }),
        "{fewer_arms}"
    );
    let uneven = refused(constant().with_manifest(|m| m.arms.arms[7].context_tokens = 300));
    assert!(
        matches!(uneven, ArtifactError::Inconsistent { .. }),
        "{uneven}"
    );
    let hidden = refused(constant().with_manifest(|m| m.hidden = 1 << 40));
    assert!(
        matches!(hidden, ArtifactError::Inconsistent { .. }),
        "{hidden}"
    );
    let models = refused(constant().with_manifest(|m| m.arms.models = usize::MAX));
    assert!(
        matches!(models, ArtifactError::Inconsistent { .. }),
        "{models}"
    );
    let tau = refused(constant().with_manifest(|m| m.tau = 0.0));
    assert!(matches!(tau, ArtifactError::Inconsistent { .. }), "{tau}");
}

#[test]
fn a_file_that_is_too_big_is_not_read() {
    let refused = Artifact::from_bytes(&vec![0; BYTES_MAX + 1]);
    assert!(matches!(refused, Err(ArtifactError::TooBig { .. })));
}

proptest! {
    #[test]
    fn truncated_artifacts_are_refused(cut in any::<prop::sample::Index>()) {
        let bytes = trained().to_bytes();
        let cut = cut.index(bytes.len());
        prop_assert!(Artifact::from_bytes(&bytes[..cut]).is_err());
    }

    #[test]
    fn flipped_bytes_are_refused_or_still_decide(
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let mut bytes = trained().to_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(artifact) = Artifact::from_bytes(&bytes) {
            let router = weir_router::Router::new(artifact).unwrap();
            let arms = router.arms().arms.len();
            let choice = router.choose(&router.start(), &crate::decisions::inputs(arms)).unwrap();
            prop_assert!(choice.qualities.iter().all(|quality| (1.0..=5.0).contains(quality)));
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Artifact::from_bytes(&bytes).is_err());
    }
}
