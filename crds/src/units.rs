//! Durations (`60s`), ages (`30d`) and sizes (`1Mi`) as people write them, parsed once.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A length of time, written as `250ms`, `30s`, `5m` or `1h`, at most a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration {
    milliseconds: u64,
}

/// How old something may become, written as `12h` or `180d`, at most 3650d.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Age {
    hours: u64,
}

/// A number of bytes, written as `4096`, `64Ki`, `1Mi` or `1Gi`, at most 1Gi.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize {
    bytes: u64,
}

/// Why a text is no duration or size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration.
    #[error("{0:?} is not a duration: write a number with ms, s, m or h, for example 60s")]
    Duration(String),
    /// Not an age.
    #[error("{0:?} is not an age: write a number with h or d, for example 30d")]
    Age(String),
    /// Not a size.
    #[error("{0:?} is not a size: write a number with Ki, Mi, Gi or nothing, for example 1Mi")]
    ByteSize(String),
}

const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const AGES: [(&str, u64); 2] = [("h", 1), ("d", 24)];
const SIZES: [(&str, u64); 4] = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("", 1)];
const DURATION_MAX_MS: u64 = 24 * 3_600_000;
const AGE_MAX_HOURS: u64 = 3650 * 24;
const SIZE_MAX_BYTES: u64 = 1 << 30;

impl Duration {
    /// A duration of whole seconds.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self {
            milliseconds: seconds * 1_000,
        }
    }

    /// The length in milliseconds.
    pub const fn milliseconds(self) -> u64 {
        self.milliseconds
    }
}

impl Age {
    /// The age in hours.
    pub const fn hours(self) -> u64 {
        self.hours
    }
}

impl ByteSize {
    /// A size in bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self { bytes }
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.bytes
    }
}

/// Splits `12ms` into digits and unit and multiplies, refusing signs, fractions, zero and overflow.
fn parse(text: &str, units: &[(&str, u64)], max: u64) -> Option<u64> {
    let (unit, scale) = units.iter().find(|(unit, _)| {
        text.strip_suffix(unit)
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    })?;
    let digits = text.strip_suffix(unit)?;
    let value = digits.parse::<u64>().ok()?.checked_mul(*scale)?;
    (value > 0 && value <= max).then_some(value)
}

/// Writes a value with the largest unit that divides it.
fn print(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let best = units
        .iter()
        .filter(|(_, scale)| value.is_multiple_of(*scale));
    match best.max_by_key(|(_, scale)| *scale) {
        Some((unit, scale)) => write!(f, "{}{unit}", value / scale),
        None => write!(f, "{value}"),
    }
}

impl FromStr for Duration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &DURATIONS, DURATION_MAX_MS)
            .map(|milliseconds| Self { milliseconds })
            .ok_or_else(|| UnitError::Duration(text.to_owned()))
    }
}

impl FromStr for Age {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &AGES, AGE_MAX_HOURS)
            .map(|hours| Self { hours })
            .ok_or_else(|| UnitError::Age(text.to_owned()))
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &SIZES, SIZE_MAX_BYTES)
            .map(|bytes| Self { bytes })
            .ok_or_else(|| UnitError::ByteSize(text.to_owned()))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.milliseconds, &DURATIONS, f)
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.hours, &AGES, f)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.bytes, &SIZES, f)
    }
}

impl TryFrom<String> for Duration {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl TryFrom<String> for Age {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl TryFrom<String> for ByteSize {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl From<Duration> for String {
    fn from(value: Duration) -> Self {
        value.to_string()
    }
}

impl From<Age> for String {
    fn from(value: Age) -> Self {
        value.to_string()
    }
}

impl From<ByteSize> for String {
    fn from(value: ByteSize) -> Self {
        value.to_string()
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 16,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^[0-9]*[1-9][0-9]*(ms|s|m|h)$') && duration(self) <= duration('24h')",
                "message": "must be a duration of at most 24h: write a whole number with ms, s, m or h, for example 60s"
            }]
        })
    }
}

impl JsonSchema for Age {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Age".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 16,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^0*(([1-9][0-9]{0,3}|[1-7][0-9]{4}|8[0-6][0-9]{3}|87[0-5][0-9]{2}|87600)h|([1-9][0-9]{0,2}|[12][0-9]{3}|3[0-5][0-9]{2}|36[0-4][0-9]|3650)d)$')",
                "message": "must be an age of at most 3650d: write a whole number with h or d, for example 30d"
            }]
        })
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 16,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^[0-9]*[1-9][0-9]*(Ki|Mi|Gi)?$') && quantity(self).compareTo(quantity('1Gi')) <= 0",
                "message": "must be a size of at most 1Gi: write a whole number with Ki, Mi or Gi, for example 1Mi"
            }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_and_printed_back() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("60s", 60_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
        ] {
            let duration: Duration = text.parse().expect(text);
            assert_eq!(duration.milliseconds(), milliseconds);
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
        for (text, hours) in [
            ("12h", 12),
            ("180d", 4320),
            ("87600h", 87_600),
            ("3650d", 87_600),
        ] {
            let age: Age = text.parse().expect(text);
            assert_eq!(age.hours(), hours);
            assert_eq!(age.to_string().parse(), Ok(age));
        }
        for (text, bytes) in [("4096", 4096), ("64Ki", 65_536), ("1Mi", 1 << 20)] {
            let size: ByteSize = text.parse().expect(text);
            assert_eq!(size.bytes(), bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
        }
    }

    #[test]
    fn what_is_no_duration_or_size_is_refused() {
        for text in [
            "",
            "s",
            "60",
            "-1s",
            "1.5s",
            "0s",
            "25h",
            "99999999999999999999h",
            "60 s",
        ] {
            assert!(
                text.parse::<Duration>().is_err(),
                "{text:?} was read as a duration"
            );
        }
        for text in ["", "d", "0d", "30", "1.5d", "-1d", "3651d", "87601h", "2w"] {
            assert!(text.parse::<Age>().is_err(), "{text:?} was read as an age");
        }
        for text in ["", "Mi", "0", "1.5Mi", "2Gi", "1MB", "99999999999Gi"] {
            assert!(
                text.parse::<ByteSize>().is_err(),
                "{text:?} was read as a size"
            );
        }
    }
}
