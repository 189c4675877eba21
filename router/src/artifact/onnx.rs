//! The graph as ONNX: the few messages of the format that a single-step cell needs.
//!
//! Field numbers are those of onnx.proto3 (IR version 8, opset 13). The graph is written in one
//! canonical form and a reader compares what it finds with that form, because the native
//! evaluation looks at the weights only: a graph that computes something else must be refused, not
//! half believed.

use prost::Message;

use super::{ArtifactError, Manifest};
use crate::cell::Cell;
use crate::network::{Heads, Layout, Network};
use crate::schema::{FeatureSchema, Step};

const MANIFEST_KEY: &str = "weir.manifest";
const IR_VERSION: i64 = 8;
const OPSET: i64 = 13;
const FLOAT: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = "14")]
    metadata_props: Vec<StringStringEntryProto>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
}

/// No operator used here has attributes; one that brings some is seen by `attribute` and refused.
#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(bytes = "vec", repeated, tag = "5")]
    attribute: Vec<Vec<u8>>,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfoProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<ShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct ShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<DimensionProto>,
}

#[derive(Clone, PartialEq, Message)]
struct DimensionProto {
    #[prost(int64, tag = "1")]
    dim_value: i64,
}

/// Sizes of a network: input columns, hidden entries, head rows.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    columns: usize,
    hidden: usize,
    heads: usize,
}

/// A decoded file, not yet believed.
pub(super) struct Model {
    proto: ModelProto,
}

/// The file for a manifest and a network.
pub(super) fn write(manifest: &Manifest, network: &Network) -> Vec<u8> {
    let manifest = serde_json::to_string(manifest).expect("a manifest has only string keys");
    let (cell, heads) = (&network.cell, &network.heads);
    let columns = network.layout.width();
    let sizes = Sizes {
        columns,
        hidden: cell.hidden(),
        heads: heads.bias.len(),
    };
    let (w, step) = cell.w.split_at(columns * sizes.hidden);
    let data = [
        w,
        step,
        &cell.u,
        &cell.gate_bias,
        &cell.candidate_bias,
        &[cell.zeta],
        &[cell.nu],
        &[1.0],
        &transposed(&heads.weights, sizes.hidden),
        &heads.bias,
    ];
    let initializer = initializers(sizes).into_iter().zip(data);
    let initializer = initializer.map(|((name, dims), values)| tensor(name, &dims, values));
    let graph = GraphProto {
        initializer: initializer.collect(),
        ..graph(sizes)
    };
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "weir".to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: OPSET,
        }],
        metadata_props: vec![StringStringEntryProto {
            key: MANIFEST_KEY.to_owned(),
            value: manifest,
        }],
    };
    model.encode_to_vec()
}

/// Names and dimensions of the weights, in file order.
fn initializers(sizes: Sizes) -> [(&'static str, Vec<usize>); 10] {
    let Sizes {
        columns,
        hidden,
        heads,
    } = sizes;
    [
        ("W", vec![columns, hidden]),
        ("S", vec![Step::ALL.len(), hidden]),
        ("U", vec![hidden, hidden]),
        ("b_z", vec![hidden]),
        ("b_h", vec![hidden]),
        ("zeta", vec![1]),
        ("nu", vec![1]),
        ("one", vec![1]),
        ("heads_weight", vec![hidden, heads]),
        ("heads_bias", vec![heads]),
    ]
}

/// The one graph that is written and read, without its weights.
fn graph(sizes: Sizes) -> GraphProto {
    let node = |op: &str, inputs: [&str; 2], output: &str| {
        let input = inputs
            .iter()
            .filter(|name| !name.is_empty())
            .map(|name| (*name).to_owned());
        NodeProto {
            input: input.collect(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op.to_owned(),
            ..NodeProto::default()
        }
    };
    let nodes = vec![
        node("MatMul", ["x", "W"], "wx"),
        node("MatMul", ["step", "S"], "ws"),
        node("MatMul", ["h", "U"], "uh"),
        node("Add", ["wx", "ws"], "inputs"),
        node("Add", ["inputs", "uh"], "p"),
        node("Add", ["p", "b_z"], "gate_sum"),
        node("Sigmoid", ["gate_sum", ""], "z"),
        node("Add", ["p", "b_h"], "candidate_sum"),
        node("Tanh", ["candidate_sum", ""], "c"),
        node("Sub", ["one", "z"], "open"),
        node("Mul", ["open", "zeta"], "scaled"),
        node("Add", ["scaled", "nu"], "weight"),
        node("Mul", ["weight", "c"], "new"),
        node("Mul", ["z", "h"], "old"),
        node("Add", ["new", "old"], "h_next"),
        node("MatMul", ["h_next", "heads_weight"], "weighted"),
        node("Add", ["weighted", "heads_bias"], "heads"),
    ];
    let Sizes {
        columns,
        hidden,
        heads,
    } = sizes;
    GraphProto {
        node: nodes,
        name: "fastgrnn_step".to_owned(),
        initializer: Vec::new(),
        input: vec![
            value("x", columns),
            value("h", hidden),
            value("step", Step::ALL.len()),
        ],
        output: vec![value("h_next", hidden), value("heads", heads)],
    }
}

fn value(name: &str, width: usize) -> ValueInfoProto {
    let dim = [1, width]
        .map(|size| DimensionProto {
            dim_value: size as i64,
        })
        .to_vec();
    let tensor = TensorTypeProto {
        elem_type: FLOAT,
        shape: Some(ShapeProto { dim }),
    };
    let r#type = Some(TypeProto {
        tensor_type: Some(tensor),
    });
    ValueInfoProto {
        name: name.to_owned(),
        r#type,
    }
}

fn tensor(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        dims: dims.iter().map(|dim| *dim as i64).collect(),
        data_type: FLOAT,
        name: name.to_owned(),
        raw_data: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    }
}

/// Row-major `rows` x `columns` to `columns` x `rows`.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let column = |column: usize| values.iter().skip(column).step_by(columns).copied();
    (0..columns).flat_map(column).collect()
}

impl Model {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ArtifactError> {
        let proto = ModelProto::decode(bytes).map_err(ArtifactError::NotOnnx)?;
        Ok(Self { proto })
    }

    /// The manifest's JSON.
    pub(super) fn manifest(&self) -> Result<&str, ArtifactError> {
        let entry = self
            .proto
            .metadata_props
            .iter()
            .find(|entry| entry.key == MANIFEST_KEY);
        let missing = || refused(format!("the model has no `{MANIFEST_KEY}` in its metadata"));
        entry.map(|entry| entry.value.as_str()).ok_or_else(missing)
    }

    /// The weights, if the graph is the one this build evaluates and every number is finite.
    pub(super) fn weights(&self, manifest: &Manifest) -> Result<(Cell, Heads), ArtifactError> {
        let sizes = Sizes {
            columns: Layout::of(FeatureSchema::current()).width(),
            hidden: manifest.hidden,
            heads: manifest.arms.arms.len() + 1 + manifest.arms.sampling.len(),
        };
        let found = self.proto.graph.as_ref();
        let found = found.ok_or_else(|| refused("the model has no graph".to_owned()))?;
        let expected = graph(sizes);
        if found.node != expected.node
            || found.input != expected.input
            || found.output != expected.output
        {
            return Err(refused(
                "its graph is not the FastGRNN step this version runs".to_owned(),
            ));
        }
        let [
            w,
            s,
            u,
            gate_bias,
            candidate_bias,
            zeta,
            nu,
            one,
            weights,
            bias,
        ] = initializers(sizes).map(|(name, dims)| read_tensor(found, name, &dims));
        if one? != [1.0] {
            return Err(refused("the constant `one` is another number".to_owned()));
        }
        let cell = Cell {
            w: [w?, s?].concat(),
            u: u?,
            gate_bias: gate_bias?,
            candidate_bias: candidate_bias?,
            zeta: zeta?[0],
            nu: nu?[0],
        };
        Ok((
            cell,
            Heads {
                weights: transposed(&weights?, sizes.heads),
                bias: bias?,
            },
        ))
    }
}

fn read_tensor(
    graph: &GraphProto,
    name: &'static str,
    dims: &[usize],
) -> Result<Vec<f32>, ArtifactError> {
    let mut named = graph
        .initializer
        .iter()
        .filter(|tensor| tensor.name == name);
    let (Some(tensor), None) = (named.next(), named.next()) else {
        return Err(refused(format!(
            "the weight `{name}` is missing or given twice"
        )));
    };
    let wanted = dims.iter().map(|dim| *dim as i64);
    let bytes = 4 * dims.iter().product::<usize>();
    if !tensor.dims.iter().copied().eq(wanted)
        || tensor.data_type != FLOAT
        || tensor.raw_data.len() != bytes
    {
        return Err(refused(format!(
            "the weight `{name}` is not {dims:?} floats"
        )));
    }
    let values = tensor.raw_data.chunks_exact(4);
    let values: Vec<f32> = values
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    if values.iter().all(|value| value.is_finite()) {
        Ok(values)
    } else {
        Err(refused(format!(
            "the weight `{name}` holds a value that is not finite"
        )))
    }
}

fn refused(what: String) -> ArtifactError {
    ArtifactError::Graph { what }
}
