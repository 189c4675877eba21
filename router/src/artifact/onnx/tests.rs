//! Files that are not what they say: each is refused by name, and nothing of it is loaded.

use prost::Message;

use super::messages::{ModelProto, NodeProto, StringStringEntryProto, TensorProto};
use super::{INT8, MANIFEST_KEY};
use crate::artifact::{Artifact, ArtifactError, Compression, Manifest, Tensor, Weights};
use crate::network::{HIDDEN, Layout, Normaliser};
use crate::schema::FeatureSchema;
use crate::{ArmTable, Step};

/// An artifact of every kind of matrix: W of rank 3 in 8 bits, U of rank 2.
fn small() -> Artifact {
    let table = ArmTable::standard(3);
    let columns = Layout::of(FeatureSchema::current()).width();
    let heads = table.arms.len() + 1 + table.sampling.len();
    let values = |count: usize| -> Vec<f32> {
        let value = |index: usize| (index as f32 * 0.37).sin();
        (0..count).map(value).collect()
    };
    let bytes = |count: usize| Tensor::int8(&values(count));
    let weights = Weights {
        hidden: HIDDEN,
        w: bytes(columns * 3),
        step: bytes(Step::ALL.len() * 3),
        w_right: Some(bytes(3 * HIDDEN)),
        u: bytes(HIDDEN * 2),
        u_right: Some(bytes(2 * HIDDEN)),
        gate_bias: values(HIDDEN),
        candidate_bias: values(HIDDEN),
        zeta: 0.7,
        nu: 0.1,
        heads: bytes(HIDDEN * heads),
        heads_bias: values(heads),
    };
    let mut manifest = Manifest::untrained(&table, &Normaliser::identity(columns));
    manifest.compression = Some(Compression {
        rank_input: Some(3),
        rank_state: Some(2),
        sparsity: 0.0,
        int8: true,
    });
    Artifact::assemble(manifest, weights)
}

fn refused(change: impl FnOnce(&mut ModelProto)) -> String {
    let mut model = ModelProto::decode(small().to_bytes()).unwrap();
    change(&mut model);
    match Artifact::from_bytes(&model.encode_to_vec()) {
        Ok(_) => "it was read".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn tensor<'a>(model: &'a mut ModelProto, name: &str) -> &'a mut TensorProto {
    let tensors = &mut model.graph.as_mut().unwrap().initializer;
    tensors
        .iter_mut()
        .find(|tensor| tensor.name == name)
        .unwrap()
}

#[test]
fn a_compressed_artifact_reads_back_as_it_was_written() {
    let artifact = small();
    assert_eq!(Artifact::from_bytes(artifact.to_bytes()).unwrap(), artifact);
    let full = Artifact::constant(&ArmTable::standard(3), &[3.0; 15]);
    let weights = |artifact: &Artifact| artifact.weights().entries().0;
    assert!(5 * weights(&artifact) < weights(&full));
}

#[test]
fn other_operators_and_other_graphs_are_refused() {
    let with_loop = refused(|model| {
        model.graph.as_mut().unwrap().node[4].op_type = "Loop".to_owned();
    });
    assert!(with_loop.contains("the operator `Loop`"), "{with_loop}");
    let not_the_step = "is not the FastGRNN step";
    let more = refused(|model| {
        let nodes = &mut model.graph.as_mut().unwrap().node;
        let last = NodeProto {
            output: vec!["more".to_owned()],
            ..nodes[nodes.len() - 1].clone()
        };
        nodes.push(last);
    });
    assert!(more.contains(not_the_step), "{more}");
    let attribute = refused(|model| {
        model.graph.as_mut().unwrap().node[0].attribute = vec![vec![1, 2, 3]];
    });
    assert!(attribute.contains(not_the_step), "{attribute}");
    let wider = refused(|model| {
        let input = &mut model.graph.as_mut().unwrap().input[0];
        let tensor = input.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
        tensor.shape.as_mut().unwrap().dim[1].dim_value = i64::MAX;
    });
    assert!(wider.contains(not_the_step), "{wider}");
    let none = refused(|model| model.graph = None);
    assert!(none.contains("has no graph"), "{none}");
}

#[test]
fn weights_of_huge_or_negative_shapes_are_refused() {
    for dims in [vec![1 << 62, 1 << 62], vec![-1, 3], vec![3], Vec::new()] {
        let said = refused(|model| tensor(model, "W_int8").dims.clone_from(&dims));
        assert!(said.contains("`W_int8` is not ["), "{dims:?}: {said}");
    }
    let short = refused(|model| tensor(model, "W_int8").raw_data.truncate(7));
    assert!(short.contains("`W_int8` is not ["), "{short}");
    let floats = refused(|model| tensor(model, "b_z").data_type = INT8);
    assert!(floats.contains("`b_z` is not [32] floats"), "{floats}");
}

#[test]
fn weights_in_other_files_are_refused() {
    let located = refused(|model| tensor(model, "U_int8").data_location = 1);
    assert!(
        located.contains("`U_int8` lies in another file"),
        "{located}"
    );
    let named = refused(|model| {
        tensor(model, "b_h").external_data = vec![StringStringEntryProto {
            key: "location".to_owned(),
            value: "/etc/passwd".to_owned(),
        }];
    });
    assert!(named.contains("`b_h` lies in another file"), "{named}");
    assert!(!named.contains("passwd"), "{named}");
}

#[test]
fn weights_that_are_missing_twice_too_many_or_no_numbers_are_refused() {
    let initializers = |model: &mut ModelProto, change: &dyn Fn(&mut Vec<TensorProto>)| {
        change(&mut model.graph.as_mut().unwrap().initializer);
    };
    let fewer = refused(|model| initializers(model, &|list| list.truncate(3)));
    assert!(fewer.contains("it has 3 weights"), "{fewer}");
    let more = refused(|model| initializers(model, &|list| list.push(list[0].clone())));
    assert!(
        more.contains("weights where the FastGRNN step has"),
        "{more}"
    );
    let twice = refused(|model| initializers(model, &|list| list[1] = list[0].clone()));
    assert!(twice.contains("missing or given twice"), "{twice}");
    for (scale, said) in [
        (f32::NAN, "not finite"),
        (0.0, "not positive"),
        (-1.0, "not positive"),
    ] {
        let found = refused(|model| {
            tensor(model, "W_scale").raw_data = scale.to_le_bytes().to_vec();
        });
        assert!(found.contains(said), "{scale}: {found}");
    }
}

#[test]
fn a_manifest_that_says_another_kind_of_weights_is_refused() {
    let said = |change: &dyn Fn(&mut Compression)| {
        let changed = small().with_manifest(|manifest| {
            let mut compression = manifest.compression.unwrap_or_default();
            change(&mut compression);
            manifest.compression = Some(compression);
        });
        // The weights stay as they are; only what the manifest says of them changes.
        let mut model = ModelProto::decode(small().to_bytes()).unwrap();
        let entry = model.metadata_props.iter_mut();
        let entry = entry.into_iter().find(|entry| entry.key == MANIFEST_KEY);
        entry.unwrap().value = serde_json::to_string(changed.manifest()).unwrap();
        Artifact::from_bytes(&model.encode_to_vec())
            .unwrap_err()
            .to_string()
    };
    for (found, expected) in [
        (said(&|c| c.int8 = false), "operator `DequantizeLinear`"),
        (said(&|c| c.rank_input = None), "is not the FastGRNN step"),
        (said(&|c| c.rank_state = Some(3)), "`U_int8` is not [32, 3]"),
        (said(&|c| c.rank_state = Some(1 << 40)), "goes from 1 to 32"),
        (said(&|c| c.rank_input = Some(0)), "goes from 1 to 32"),
        (
            said(&|c| c.sparsity = 0.9),
            "0.9 of the recurrent weights are zero",
        ),
        (said(&|c| c.sparsity = f64::NAN), "does not parse"),
        (said(&|c| c.sparsity = 1.0), "less than 1"),
    ] {
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn the_error_of_a_refused_file_says_what_is_read_instead() {
    let mut model = ModelProto::decode(small().to_bytes()).unwrap();
    model.metadata_props.clear();
    let error = Artifact::from_bytes(&model.encode_to_vec()).unwrap_err();
    assert!(matches!(error, ArtifactError::Graph { .. }));
    assert!(error.to_string().contains("`weir router train`"), "{error}");
}

#[test]
fn bytes_come_back_as_the_floats_they_stand_for() {
    let values = [0.5_f32, -1.0, 0.003, 0.0, 0.999];
    let tensor = Tensor::int8(&values);
    let back = tensor.values();
    for (value, back) in values.iter().zip(&back) {
        assert!(
            (value - back).abs() <= 0.5 / 127.0 + 1e-6,
            "{value} became {back}"
        );
    }
    assert_eq!(back[1], -1.0);
    assert_eq!((tensor.len(), tensor.zeros()), (5, 2));
    assert_eq!(Tensor::int8(&[0.0, 0.0]).values(), [0.0, 0.0]);
}
