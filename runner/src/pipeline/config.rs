//! A step's settings: JSON for the plugin, with the place of every part for messages.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

/// A step's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    #[serde(with = "text")]
    value: Arc<Value>,
    /// By JSON pointer, in order.
    places: Vec<(String, Place)>,
}

/// Where one part of the settings is written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Place {
    key: Range<usize>,
    value: Range<usize>,
}

impl Config {
    /// The settings as the plugin gets them: always an object, names in order.
    pub const fn value(&self) -> &Arc<Value> {
        &self.value
    }

    /// The place of the value that a JSON pointer names, or of the nearest part around it; none where nothing is written.
    pub fn span(&self, pointer: &str) -> Option<Range<usize>> {
        self.place(pointer).map(|place| place.value.clone())
    }

    /// The place of the key that a JSON pointer ends in, or of the nearest part around it.
    pub fn key_span(&self, pointer: &str) -> Option<Range<usize>> {
        self.place(pointer).map(|place| place.key.clone())
    }

    fn place(&self, pointer: &str) -> Option<&Place> {
        let mut pointer = pointer;
        loop {
            if let Ok(index) = self.places.binary_search_by(|(known, _)| known.as_str().cmp(pointer)) {
                return Some(&self.places[index].1);
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }

    /// Takes a table; what JSON cannot say comes back as a place and a reason.
    pub(super) fn read(
        key: Range<usize>,
        span: Range<usize>,
        table: &DeTable<'_>,
    ) -> Result<Self, (Range<usize>, &'static str)> {
        let mut places = BTreeMap::new();
        let mut value = object(table, "", &mut places)?;
        value.sort_all_objects();
        places.insert(String::new(), Place { key, value: span });
        Ok(Self { value: Arc::new(value), places: places.into_iter().collect() })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { value: Arc::new(Value::Object(Map::new())), places: Vec::new() }
    }
}

/// JSON as a text: what reads it back need not tell of itself what it holds.
mod text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};
    use serde_json::Value;

    pub(super) fn serialize<S: Serializer>(value: &Arc<Value>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Value>, D::Error> {
        let value = serde_json::from_str(<&str>::deserialize(deserializer)?).map_err(serde::de::Error::custom)?;
        Ok(Arc::new(value))
    }
}

type Converted = Result<Value, (Range<usize>, &'static str)>;

fn object(table: &DeTable<'_>, pointer: &str, places: &mut BTreeMap<String, Place>) -> Converted {
    let mut out = Map::new();
    for (key, value) in table {
        let pointer = [pointer, &escaped(key.get_ref())].join("/");
        out.insert(key.get_ref().to_string(), convert(value.get_ref(), value.span(), &pointer, places)?);
        places.insert(pointer, Place { key: key.span(), value: value.span() });
    }
    Ok(Value::Object(out))
}

fn convert(value: &DeValue<'_>, span: Range<usize>, pointer: &str, places: &mut BTreeMap<String, Place>) -> Converted {
    match value {
        DeValue::String(text) => Ok(Value::String(text.to_string())),
        DeValue::Boolean(truth) => Ok(Value::Bool(*truth)),
        DeValue::Datetime(time) => Ok(Value::String(time.to_string())),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| Value::Number(number.into()))
            .map_err(|_| (span, "this number is too large")),
        DeValue::Float(number) => (number.as_str().parse().ok())
            .and_then(Number::from_f64)
            .map(Value::Number)
            .ok_or((span, "this is not a finite number")),
        DeValue::Array(items) => {
            let mut out = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let pointer = format!("{pointer}/{index}");
                out.push(convert(item.get_ref(), item.span(), &pointer, places)?);
                places.insert(pointer, Place { key: item.span(), value: item.span() });
            }
            Ok(Value::Array(out))
        }
        DeValue::Table(table) => object(table, pointer, places),
    }
}

/// A key as a segment of a JSON pointer.
pub(super) fn escaped(key: &str) -> Cow<'_, str> {
    if key.contains(['~', '/']) { key.replace('~', "~0").replace('/', "~1").into() } else { key.into() }
}

impl JsonSchema for Config {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Config".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}
