//! Headers: made, real, cut short, and hostile.

use proptest::prelude::*;
use weir_models::gguf::{GgufError, GgufFacts};
use weir_testenv::{QWEN, SMOLLM2, component};

/// Writes a header by hand.
struct Header {
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: usize,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

impl Header {
    fn new() -> Self {
        Self {
            keys: Vec::new(),
            tensors: Vec::new(),
            data: 0,
        }
    }

    fn key(mut self, name: &str, kind: u32, value: &[u8]) -> Self {
        self.keys
            .push([&text(name), &kind.to_le_bytes()[..], value].concat());
        self
    }

    fn string(self, name: &str, value: &str) -> Self {
        self.key(name, 8, &text(value))
    }

    fn number(self, name: &str, value: u32) -> Self {
        self.key(name, 4, &value.to_le_bytes())
    }

    fn strings(self, name: &str, values: &[&str]) -> Self {
        let items: Vec<u8> = values.iter().flat_map(|value| text(value)).collect();
        let count = (values.len() as u64).to_le_bytes();
        self.key(
            name,
            9,
            &[&8_u32.to_le_bytes()[..], &count, &items].concat(),
        )
    }

    /// A tensor of `F32` with `rows` times 32 weights.
    fn tensor(mut self, name: &str, rows: u64) -> Self {
        let offset = self.data as u64;
        self.data += usize::try_from(rows).unwrap() * 128;
        let fields = [32_u64.to_le_bytes(), rows.to_le_bytes()].concat();
        let (two, float) = (2_u32.to_le_bytes(), 0_u32.to_le_bytes());
        let parts = [
            &text(name)[..],
            &two,
            &fields,
            &float,
            &offset.to_le_bytes(),
        ];
        self.tensors.push(parts.concat());
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        bytes.extend(self.keys.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32) + self.data, 0);
        bytes
    }
}

fn model() -> Header {
    Header::new()
        .string("general.architecture", "lfm2")
        .string("general.name", "Tiny")
        .key("general.file_type", 4, &15_u32.to_le_bytes())
        .number("lfm2.context_length", 4096)
        .key(
            "lfm2.attention.head_count_kv",
            9,
            &[5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0],
        )
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "lfm2")
        .strings("tokenizer.ggml.tokens", &["a", "b", "ab"])
        .strings("tokenizer.ggml.merges", &["a b"])
        .number("tokenizer.ggml.bos_token_id", 1)
        .string("tokenizer.chat_template", "{{ messages }}")
        .tensor("token_embd.weight", 3)
        .tensor("output_norm.weight", 1)
}

#[test]
fn header_gives_the_facts() {
    let facts = GgufFacts::from_bytes(&model().bytes()).unwrap();
    assert_eq!(facts.architecture, "lfm2");
    assert_eq!(facts.name.as_deref(), Some("Tiny"));
    assert_eq!(facts.parameters, 128);
    assert_eq!(facts.context_tokens, 4096);
    assert_eq!(facts.quantization, "Q4_K_M");
    assert_eq!(facts.chat_template.as_deref(), Some("{{ messages }}"));
    let tokenizer = facts.tokenizer.unwrap();
    assert_eq!(tokenizer.tokens, ["a", "b", "ab"]);
    assert_eq!(tokenizer.merges, ["a b"]);
    assert_eq!((tokenizer.bos, tokenizer.eos), (Some(1), None));
    assert!(
        tokenizer.add_bos,
        "what the engine does for this family when the file says nothing"
    );
}

#[test]
fn quantization_is_that_of_most_weights_when_the_file_names_none() {
    let bytes = Header::new().tensor("a", 2).bytes();
    assert_eq!(GgufFacts::from_bytes(&bytes).unwrap().quantization, "F32");
}

#[test]
fn file_cut_anywhere_tells_both_sizes() {
    let whole = model().bytes();
    for len in 8..whole.len() {
        match GgufFacts::from_bytes(&whole[..len]) {
            Err(GgufError::Truncated {
                expected, actual, ..
            }) => {
                assert!(
                    actual == len as u64 && expected > actual && expected <= whole.len() as u64
                );
            }
            other => panic!("{len} of {} bytes: {other:?}", whole.len()),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.gguf");
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let error = GgufFacts::read(&path).unwrap_err().to_string();
    let told = format!(
        "has {} bytes, its header needs at least {}",
        whole.len() - 1,
        whole.len()
    );
    assert!(
        error.contains("cut.gguf is cut short") && error.contains(&told),
        "{error}"
    );
}

#[test]
fn other_files_are_told_apart() {
    let error = |bytes: &[u8]| GgufFacts::from_bytes(bytes).unwrap_err().to_string();
    assert!(error(b"<html>").contains("starts with \"<htm\" instead of \"GGUF\""));
    assert!(error(b"").contains("is not a GGUF model file"));
    assert!(error(b"GGUF\x09\0\0\0").contains("GGUF version 9"));
    let missing = GgufFacts::read(std::path::Path::new("/nowhere/x.gguf")).unwrap_err();
    assert!(missing.to_string().contains("/nowhere/x.gguf"));
    let unknown = Header::new().key("x", 77, &[]).tensor("a", 1).bytes();
    assert!(error(&unknown).contains("value type 77 is unknown"));
}

#[test]
fn huge_lengths_are_refused_before_memory_is_taken() {
    let many = [b"GGUF\x03\0\0\0", &u64::MAX.to_le_bytes()[..], &[0; 8]].concat();
    assert!(GgufFacts::from_bytes(&many).is_err());
    let long = [
        5_u32.to_le_bytes().to_vec(),
        u64::MAX.to_le_bytes().to_vec(),
    ]
    .concat();
    let array = Header::new()
        .key("tokenizer.ggml.token_type", 9, &long)
        .tensor("a", 1)
        .bytes();
    assert!(matches!(
        GgufFacts::from_bytes(&array),
        Err(GgufError::Truncated { .. })
    ));
    let string = Header::new()
        .key("general.name", 8, &(1_u64 << 60).to_le_bytes())
        .bytes();
    assert!(GgufFacts::from_bytes(&string).is_err());
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = GgufFacts::from_bytes(&bytes);
        let _ = GgufFacts::from_bytes(&[b"GGUF\x03\0\0\0", &bytes[..]].concat());
    }

    #[test]
    fn spoilt_headers_never_panic(at in 0_usize..600, to: u8, also in 0_usize..600, bit in 0_u8..8) {
        let mut bytes = model().bytes();
        let len = bytes.len();
        bytes[at % len] = to;
        bytes[also % len] ^= 1_u8 << bit;
        let _ = GgufFacts::from_bytes(&bytes);
    }
}

#[test]
fn the_fuzzer_begins_with_headers_that_are_read() {
    let whole = include_bytes!("../../../fuzz/seeds/gguf/small.gguf");
    let facts = GgufFacts::from_bytes(whole).unwrap();
    assert_eq!((facts.parameters, facts.context_tokens), (160, 2048));
    assert_eq!(facts.tokenizer.unwrap().merges, ["a b"]);
}

#[test]
fn real_models_of_the_ladder_are_read() {
    let cases = [
        (SMOLLM2, "llama", 134_515_008, 8192, "Q4_1", 49_152),
        (QWEN, "qwen2", 630_167_424, 32_768, "Q4_K_M", 151_936),
    ];
    for (file, architecture, parameters, context, quantization, tokens) in cases {
        let Some(path) = component(file) else {
            continue;
        };
        let facts = GgufFacts::read(&path).unwrap();
        assert_eq!(facts.architecture, architecture);
        assert_eq!(facts.parameters, parameters, "{file}");
        assert_eq!(
            (facts.context_tokens, &*facts.quantization),
            (context, quantization)
        );
        assert_eq!(facts.tokenizer.unwrap().tokens.len(), tokens);
    }
}
