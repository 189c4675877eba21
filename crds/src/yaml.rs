//! YAML documents into JSON values that know their lines.
