//! Generated files: the CRDs in `crds/yaml`.

use crate::golden::{compare, in_crate};
use serde_json::Value;

/// etcd's and kubectl's limits are near 256 KiB; the annotation that client-side apply writes doubles a CRD.
const CRD_MAX_BYTES: usize = 200_000;

#[test]
fn committed_crds_are_what_the_types_say() {
    let crds = weir_crds::crds();
    assert_eq!(crds.len(), 5);
    for (file, crd) in crds {
        let text = format!(
            "# Generated from crds/src: UPDATE=1 cargo test -p weir-crds\n{}",
            weir_crds::yaml::to_string(&crd)
        );
        assert!(
            text.len() < CRD_MAX_BYTES,
            "{file} has {} bytes",
            text.len()
        );
        compare(&in_crate("yaml").join(file), &text);
    }
}

#[test]
fn crds_are_structural_and_carry_names_and_columns() {
    for (file, crd) in weir_crds::crds() {
        let names = &crd["spec"]["names"];
        assert_eq!(names["categories"], serde_json::json!(["weir"]), "{file}");
        let version = &crd["spec"]["versions"][0];
        let columns: Vec<&str> = version["additionalPrinterColumns"]
            .as_array()
            .expect("columns")
            .iter()
            .filter_map(|column| column["name"].as_str())
            .collect();
        // A rollout is not ready or not: its phase says where it stands.
        let needed = match file {
            "routerrollouts.yaml" => ["Phase", "Reason"],
            _ => ["Ready", "Reason"],
        };
        for needed in needed {
            assert!(columns.contains(&needed), "{file}: {columns:?}");
        }
        assert_eq!(columns.last(), Some(&"Age"), "{file}");
        assert_structural(&version["schema"]["openAPIV3Schema"], file);
    }
}

/// Rules of Kubernetes' structural schemas that a wrong derive would break: every node has one type, fields and free
/// entries exclude each other, no alternatives, no references.
fn assert_structural(schema: &Value, place: &str) {
    let fields = schema.as_object().expect(place);
    let open = fields.contains_key("x-kubernetes-preserve-unknown-fields");
    assert!(
        open || schema["type"].is_string(),
        "{place} has no type: {schema}"
    );
    for word in ["$ref", "oneOf", "anyOf", "allOf", "nullable", "const"] {
        assert!(!fields.contains_key(word), "{place} has {word}");
    }
    assert!(
        !(fields.contains_key("properties") && fields.contains_key("additionalProperties")),
        "{place} has fields and free entries"
    );
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        assert_structural(field, &format!("{place}.{name}"));
    }
    for word in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get(word) {
            assert_structural(inner, &format!("{place}[]"));
        }
    }
}

#[test]
fn every_field_that_people_write_is_described() {
    for (file, crd) in weir_crds::crds() {
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert_described(spec, file);
    }
}

fn assert_described(schema: &Value, place: &str) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        assert!(
            field["description"].is_string(),
            "{place} has no description"
        );
        assert_described(field, &place);
        assert_described(&field["items"], &place);
    }
}

#[test]
fn the_editor_schema_is_closed_and_free_of_cluster_extensions() {
    let schema = weir_crds::schema(None).expect("all kinds");
    assert_eq!(schema["oneOf"].as_array().map(Vec::len), Some(5));
    let text = schema.to_string();
    assert!(!text.contains("x-kubernetes-"));
    let pool = weir_crds::schema(Some("ModelPool")).expect("a kind");
    assert_eq!(&schema["oneOf"][0]["properties"], &pool["properties"]);
    assert_eq!(pool["properties"]["kind"]["enum"][0], "ModelPool");
    assert_eq!(pool["properties"]["spec"]["additionalProperties"], false);
    let error = weir_crds::schema(Some("Pod")).expect_err("no kind of a stack");
    assert!(error.to_string().contains("a stack holds ModelPool"));
}
