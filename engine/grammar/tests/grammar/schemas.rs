//! Random schemas, and answers of a model that knows nothing: each that ends is what its schema asks for.

use allerac_engine_core::Grammar;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::writer::{begin, write};

/// A schema that this test can check by itself.
#[derive(Debug, Clone)]
enum Schema {
    Null,
    Boolean,
    Integer {
        minimum: i64,
        maximum: i64,
    },
    Number,
    Text {
        least: usize,
        most: usize,
    },
    Pattern,
    Enum(Vec<String>),
    Array {
        items: Box<Schema>,
        least: usize,
        most: usize,
    },
    /// Properties in their order, and whether each is required.
    Object(Vec<(Schema, bool)>),
    Any(Vec<Schema>),
}

fn schemas() -> impl Strategy<Value = Schema> {
    let leaf = prop_oneof![
        Just(Schema::Null),
        Just(Schema::Boolean),
        (-200i64..200, 0i64..300).prop_map(|(minimum, more)| Schema::Integer { minimum, maximum: minimum + more }),
        Just(Schema::Number),
        (0usize..4, 0usize..9).prop_map(|(least, more)| Schema::Text { least, most: least + more }),
        Just(Schema::Pattern),
        proptest::collection::vec("[a-zé\"\\\\]{1,6}", 1..4).prop_map(Schema::Enum),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            (inner.clone(), 0usize..3, 0usize..3).prop_map(|(items, least, more)| Schema::Array {
                items: items.into(),
                least,
                most: least + more
            }),
            proptest::collection::vec((inner.clone(), any::<bool>()), 0..4).prop_map(Schema::Object),
            proptest::collection::vec(inner, 1..3).prop_map(Schema::Any),
        ]
    })
}

impl Schema {
    fn json(&self) -> Value {
        match self {
            Self::Null => json!({"type": "null"}),
            Self::Boolean => json!({"type": "boolean"}),
            Self::Integer { minimum, maximum } => json!({"type": "integer", "minimum": minimum, "maximum": maximum}),
            Self::Number => json!({"type": "number"}),
            Self::Text { least, most } => json!({"type": "string", "minLength": least, "maxLength": most}),
            Self::Pattern => json!({"type": "string", "pattern": "^[a-c]+-[0-9]{2}$"}),
            Self::Enum(values) => json!({"enum": values}),
            Self::Array { items, least, most } => {
                json!({"type": "array", "items": items.json(), "minItems": least, "maxItems": most})
            }
            Self::Object(properties) => {
                let named = (0..).zip(properties).map(|(index, (schema, _))| (format!("k{index}"), schema.json()));
                let required = (0..).zip(properties).filter(|(_, (_, required))| *required);
                let required: Vec<String> = required.map(|(index, _)| format!("k{index}")).collect();
                let properties: Map<String, Value> = named.collect();
                json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
            }
            Self::Any(options) => json!({"anyOf": options.iter().map(Self::json).collect::<Vec<_>>()}),
        }
    }

    fn allows(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Null, Value::Null) | (Self::Boolean, Value::Bool(_)) | (Self::Number, Value::Number(_)) => true,
            (Self::Integer { minimum, maximum }, Value::Number(number)) => {
                // `-0` is an integer, which serde_json reads as a float.
                let zero = || (number.as_f64() == Some(0.0)).then_some(0);
                number.as_i64().or_else(zero).is_some_and(|number| (*minimum..=*maximum).contains(&number))
            }
            (Self::Text { least, most }, Value::String(text)) => (*least..=*most).contains(&text.chars().count()),
            (Self::Pattern, Value::String(text)) => text.rsplit_once('-').is_some_and(|(letters, digits)| {
                !letters.is_empty()
                    && letters.bytes().all(|byte| (b'a'..=b'c').contains(&byte))
                    && digits.len() == 2
                    && digits.bytes().all(|byte| byte.is_ascii_digit())
            }),
            (Self::Enum(values), Value::String(text)) => values.contains(text),
            (Self::Array { items, least, most }, Value::Array(values)) => {
                (*least..=*most).contains(&values.len()) && values.iter().all(|value| items.allows(value))
            }
            (Self::Object(properties), Value::Object(map)) => {
                let known: Vec<String> = (0..properties.len()).map(|index| format!("k{index}")).collect();
                let given: Vec<&String> = map.keys().collect();
                let in_order: Vec<&String> = known.iter().filter(|name| map.contains_key(*name)).collect();
                given == in_order
                    && known.iter().zip(properties).all(|(name, (schema, required))| match map.get(name) {
                        Some(value) => schema.allows(value),
                        None => !required,
                    })
            }
            (Self::Any(options), value) => options.iter().any(|option| option.allows(value)),
            _ => false,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_answer_that_ends_is_what_its_schema_asks_for(schema in schemas(), seed in any::<u32>()) {
        let grammar = Grammar::JsonSchema(schema.json().to_string());
        let random = |seed: u32| {
            let mut state = u64::from(seed) << 1 | 1;
            move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                u32::try_from(state >> 33).unwrap()
            }
        };
        let (text, ended) = write(&mut *begin(&grammar), random(seed), true);
        if ended {
            match serde_json::from_str(&text) {
                Ok(value) => prop_assert!(schema.allows(&value), "{text} is not what {grammar:?} asks for"),
                // JSON itself knows no largest number.
                Err(error) => prop_assert!(error.to_string().contains("number out of range"), "{text}: {error}"),
            }
        }
        // Looking ahead changes nothing.
        prop_assert_eq!(write(&mut *begin(&grammar), random(seed), false), (text, ended));
    }
}
