//! The graph as ONNX: the few messages of the format that a single-step cell needs.
//!
//! [`messages`] has those of onnx.proto3; operators are those of opset 13. The graph is written in one
//! canonical form and a reader compares what it finds with that form, because the native
//! evaluation looks at the weights only: a graph that computes something else must be refused, not
//! half believed. A compressed network has the same graph with a `MatMul` more for each low-rank matrix and a
//! `DequantizeLinear` for each one in 8 bits.

mod messages;

use prost::Message;

use super::{ArtifactError, Compression, Manifest, Tensor, Weights};
use crate::network::Layout;
use crate::schema::{FeatureSchema, Step};
use messages::{
    DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ShapeProto,
    StringStringEntryProto, TensorProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

const MANIFEST_KEY: &str = "weir.manifest";
const IR_VERSION: i64 = 8;
const OPSET: i64 = 13;
const FLOAT: i32 = 1;
const INT8: i32 = 3;

/// Sizes of a network: input columns, hidden entries, head rows, and how its matrices are stored.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    columns: usize,
    hidden: usize,
    heads: usize,
    compression: Compression,
}

/// A decoded file, not yet believed.
pub(super) struct Model {
    proto: ModelProto,
}

/// The file for a manifest and its weights.
pub(super) fn write(manifest: &Manifest, weights: &Weights) -> Vec<u8> {
    let sizes = Sizes {
        columns: Layout::of(FeatureSchema::current()).width(),
        hidden: weights.hidden,
        heads: weights.heads_bias.len(),
        compression: manifest.compression.unwrap_or_default(),
    };
    let manifest = serde_json::to_string(manifest).expect("a manifest has only string keys");
    let floats = |values: &[f32]| Tensor::Float(values.to_vec());
    let mut data = vec![weights.w.clone(), weights.step.clone()];
    data.extend(weights.w_right.clone());
    data.push(weights.u.clone());
    data.extend(weights.u_right.clone());
    data.extend([
        floats(&weights.gate_bias),
        floats(&weights.candidate_bias),
        floats(&[weights.zeta]),
        floats(&[weights.nu]),
        floats(&[1.0]),
        weights.heads.clone(),
        floats(&weights.heads_bias),
    ]);
    let initializer = matrices(sizes).into_iter().zip(data);
    let initializer = initializer.flat_map(|(matrix, values)| matrix.initializers(&values));
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

/// One weight of the graph by the name its operators use.
#[derive(Debug, Clone)]
struct Matrix {
    name: &'static str,
    dims: Vec<usize>,
    int8: bool,
}

impl Matrix {
    /// Names of the bytes and of their scale.
    fn stored(&self) -> [String; 2] {
        [
            format!("{}_int8", self.name),
            format!("{}_scale", self.name),
        ]
    }

    /// What turns the bytes into the weight.
    fn node(&self) -> NodeProto {
        let [bytes, scale] = self.stored();
        node("DequantizeLinear", &[&bytes, &scale], self.name)
    }

    fn initializers(&self, values: &Tensor) -> Vec<TensorProto> {
        match values {
            Tensor::Float(values) => vec![tensor(self.name, &self.dims, values)],
            Tensor::Int8 { scale, bytes } => {
                let [bytes_name, scale_name] = self.stored();
                let bytes = TensorProto {
                    dims: self.dims.iter().map(|dim| *dim as i64).collect(),
                    data_type: INT8,
                    name: bytes_name,
                    raw_data: bytes.iter().map(|byte| byte.cast_unsigned()).collect(),
                    ..TensorProto::default()
                };
                vec![bytes, tensor(&scale_name, &[], &[*scale])]
            }
        }
    }

    /// The weight as a graph stores it.
    fn read(&self, graph: &GraphProto) -> Result<Tensor, ArtifactError> {
        if !self.int8 {
            return Ok(Tensor::Float(read_floats(graph, self.name, &self.dims)?));
        }
        let [bytes, scale] = self.stored();
        let scale = read_floats(graph, &scale, &[])?[0];
        if scale <= 0.0 {
            return Err(refused(format!(
                "the scale of the weight `{}` is {scale}, which is not positive",
                self.name
            )));
        }
        let bytes = read_tensor(graph, &bytes, (&self.dims, INT8))?;
        let bytes = bytes.raw_data.iter().map(|byte| byte.cast_signed());
        Ok(Tensor::Int8 {
            scale,
            bytes: bytes.collect(),
        })
    }
}

/// The weights, in file order.
fn matrices(sizes: Sizes) -> Vec<Matrix> {
    let Sizes {
        columns,
        hidden,
        heads,
        compression,
    } = sizes;
    let int8 = compression.int8;
    let matrix = |name, dims: &[usize]| Matrix {
        name,
        dims: dims.to_vec(),
        int8,
    };
    let float = |name, dims: &[usize]| Matrix {
        int8: false,
        ..matrix(name, dims)
    };
    let (of_input, of_state) = (compression.rank_input, compression.rank_state);
    let (input_width, state_width) = (of_input.unwrap_or(hidden), of_state.unwrap_or(hidden));
    let mut all = vec![
        matrix("W", &[columns, input_width]),
        matrix("S", &[Step::ALL.len(), input_width]),
    ];
    all.extend(of_input.map(|rank| matrix("W_right", &[rank, hidden])));
    all.push(matrix("U", &[hidden, state_width]));
    all.extend(of_state.map(|rank| matrix("U_right", &[rank, hidden])));
    all.extend([
        float("b_z", &[hidden]),
        float("b_h", &[hidden]),
        float("zeta", &[1]),
        float("nu", &[1]),
        float("one", &[1]),
        matrix("heads_weight", &[hidden, heads]),
        float("heads_bias", &[heads]),
    ]);
    all
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        name: output.to_owned(),
        op_type: op.to_owned(),
        ..NodeProto::default()
    }
}

/// The one graph that is written and read for these sizes, without its weights.
fn graph(sizes: Sizes) -> GraphProto {
    let compression = sizes.compression;
    let quantised = matrices(sizes).into_iter().filter(|matrix| matrix.int8);
    let mut nodes: Vec<NodeProto> = quantised.map(|matrix| matrix.node()).collect();
    nodes.extend([
        node("MatMul", &["x", "W"], "wx"),
        node("MatMul", &["step", "S"], "ws"),
    ]);
    if compression.rank_state.is_some() {
        nodes.push(node("MatMul", &["h", "U"], "uh_left"));
        nodes.push(node("MatMul", &["uh_left", "U_right"], "uh"));
    } else {
        nodes.push(node("MatMul", &["h", "U"], "uh"));
    }
    if compression.rank_input.is_some() {
        nodes.push(node("Add", &["wx", "ws"], "inputs_left"));
        nodes.push(node("MatMul", &["inputs_left", "W_right"], "inputs"));
    } else {
        nodes.push(node("Add", &["wx", "ws"], "inputs"));
    }
    nodes.extend([
        node("Add", &["inputs", "uh"], "p"),
        node("Add", &["p", "b_z"], "gate_sum"),
        node("Sigmoid", &["gate_sum"], "z"),
        node("Add", &["p", "b_h"], "candidate_sum"),
        node("Tanh", &["candidate_sum"], "c"),
        node("Sub", &["one", "z"], "open"),
        node("Mul", &["open", "zeta"], "scaled"),
        node("Add", &["scaled", "nu"], "weight"),
        node("Mul", &["weight", "c"], "new"),
        node("Mul", &["z", "h"], "old"),
        node("Add", &["new", "old"], "h_next"),
        node("MatMul", &["h_next", "heads_weight"], "weighted"),
        node("Add", &["weighted", "heads_bias"], "heads"),
    ]);
    GraphProto {
        node: nodes,
        name: "fastgrnn_step".to_owned(),
        initializer: Vec::new(),
        input: vec![
            value("x", sizes.columns),
            value("h", sizes.hidden),
            value("step", Step::ALL.len()),
        ],
        output: vec![value("h_next", sizes.hidden), value("heads", sizes.heads)],
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
        ..TensorProto::default()
    }
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
    pub(super) fn weights(&self, manifest: &Manifest) -> Result<Weights, ArtifactError> {
        let sizes = Sizes {
            columns: Layout::of(FeatureSchema::current()).width(),
            hidden: manifest.hidden,
            heads: manifest.arms.arms.len() + 1 + manifest.arms.sampling.len(),
            compression: manifest.compression.unwrap_or_default(),
        };
        let found = self.proto.graph.as_ref();
        let found = found.ok_or_else(|| refused("the model has no graph".to_owned()))?;
        check_graph(found, &graph(sizes))?;
        let matrices = matrices(sizes);
        let stored = |matrix: &Matrix| if matrix.int8 { 2 } else { 1 };
        let expected: usize = matrices.iter().map(stored).sum();
        if found.initializer.len() != expected {
            return Err(refused(format!(
                "it has {} weights where the FastGRNN step has {expected}",
                found.initializer.len()
            )));
        }
        let read = |name: &str| {
            let matrix = matrices.iter().find(|matrix| matrix.name == name);
            matrix.map(|matrix| matrix.read(found)).transpose()
        };
        let needed = |name: &str| {
            let missing = || refused(format!("the weight `{name}` is missing"));
            read(name)?.ok_or_else(missing)
        };
        let floats = |name: &str| Ok::<_, ArtifactError>(needed(name)?.values());
        if floats("one")? != [1.0] {
            return Err(refused("the constant `one` is another number".to_owned()));
        }
        Ok(Weights {
            hidden: sizes.hidden,
            w: needed("W")?,
            step: needed("S")?,
            w_right: read("W_right")?,
            u: needed("U")?,
            u_right: read("U_right")?,
            gate_bias: floats("b_z")?,
            candidate_bias: floats("b_h")?,
            zeta: floats("zeta")?[0],
            nu: floats("nu")?[0],
            heads: needed("heads_weight")?,
            heads_bias: floats("heads_bias")?,
        })
    }
}

/// Refuses a graph that is not the expected one, naming the first operator that differs.
fn check_graph(found: &GraphProto, expected: &GraphProto) -> Result<(), ArtifactError> {
    let known = |node: &&NodeProto| expected.node.iter().any(|own| own.op_type == node.op_type);
    if let Some(other) = found.node.iter().find(|node| !known(node)) {
        return Err(refused(format!(
            "its graph has the operator `{}`, which the FastGRNN step does not have",
            other.op_type.chars().take(40).collect::<String>()
        )));
    }
    if found.node != expected.node
        || found.input != expected.input
        || found.output != expected.output
    {
        return Err(refused(
            "its graph is not the FastGRNN step this version runs".to_owned(),
        ));
    }
    Ok(())
}

fn read_tensor<'a>(
    graph: &'a GraphProto,
    name: &str,
    (dims, data_type): (&[usize], i32),
) -> Result<&'a TensorProto, ArtifactError> {
    let mut named = graph
        .initializer
        .iter()
        .filter(|tensor| tensor.name == name);
    let (Some(tensor), None) = (named.next(), named.next()) else {
        return Err(refused(format!(
            "the weight `{name}` is missing or given twice"
        )));
    };
    if tensor.data_location != 0 || !tensor.external_data.is_empty() {
        return Err(refused(format!("the weight `{name}` lies in another file")));
    }
    let width = if data_type == INT8 { 1 } else { 4 };
    let wanted = dims.iter().map(|dim| *dim as i64);
    if !tensor.dims.iter().copied().eq(wanted)
        || tensor.data_type != data_type
        || tensor.raw_data.len() != width * dims.iter().product::<usize>()
    {
        let kind = if data_type == INT8 { "bytes" } else { "floats" };
        return Err(refused(format!(
            "the weight `{name}` is not {dims:?} {kind}"
        )));
    }
    Ok(tensor)
}

fn read_floats(graph: &GraphProto, name: &str, dims: &[usize]) -> Result<Vec<f32>, ArtifactError> {
    let tensor = read_tensor(graph, name, (dims, FLOAT))?;
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

#[cfg(test)]
mod tests;
