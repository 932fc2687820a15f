//! How a context attends, and in which numbers it keeps keys and values.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What decides how attention is computed. It holds for a context's whole life: the order of values in memory
/// depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attention {
    /// When to use flash attention.
    pub flash: FlashAttention,
    /// The numbers of keys.
    pub kv_type_k: KvType,
    /// The numbers of values.
    pub kv_type_v: KvType,
}

impl Attention {
    /// Whether these go together.
    ///
    /// # Errors
    /// [`AttentionError`] when llama.cpp would refuse them.
    pub fn check(self) -> Result<Self, AttentionError> {
        // With `Auto`, llama.cpp takes flash attention for quantised values.
        if self.flash == FlashAttention::Off && self.kv_type_v.is_quantised() {
            return Err(AttentionError::QuantisedValues(self.kv_type_v));
        }
        Ok(self)
    }

    /// Whether something is lost by it, in numbers.
    #[must_use]
    pub fn is_lossy(self) -> bool {
        self.kv_type_k.is_quantised() || self.kv_type_v.is_quantised()
    }
}

/// Settings of attention that cannot be used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttentionError {
    /// Quantised values without flash attention.
    #[error(
        "values of type {0} need flash attention, which is off: without it values are stored across the tokens, \
         and blocks of quantised numbers cannot be; \
         set flash_attention to auto or on, or kv_type_v to f16"
    )]
    QuantisedValues(KvType),
}

/// When to use flash attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlashAttention {
    /// llama.cpp decides; on a CPU it takes it.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// A number format of the KV cache, by llama.cpp's names. These are the formats that its own server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum KvType {
    /// 32 bits.
    #[serde(rename = "f32")]
    F32,
    /// 16 bits; what models are commonly run with.
    #[default]
    #[serde(rename = "f16")]
    F16,
    /// 16 bits with the range of 32.
    #[serde(rename = "bf16")]
    Bf16,
    /// 8.5 bits.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 6 bits.
    #[serde(rename = "q5_1")]
    Q5_1,
    /// 5.5 bits.
    #[serde(rename = "q5_0")]
    Q5_0,
    /// 5 bits.
    #[serde(rename = "q4_1")]
    Q4_1,
    /// 4.5 bits.
    #[serde(rename = "q4_0")]
    Q4_0,
    /// 4.5 bits, not evenly spaced.
    #[serde(rename = "iq4_nl")]
    Iq4Nl,
}

/// Numbers that share one scale in quantised formats. A head must be a whole number of them.
pub const KV_BLOCK: u32 = 32;

impl FlashAttention {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::On, Self::Off];

    /// The word for it, on command lines and in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl KvType {
    /// All of them.
    pub const ALL: [Self; 9] =
        [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Q5_1, Self::Q5_0, Self::Q4_1, Self::Q4_0, Self::Iq4Nl];

    /// The word for it, on command lines and in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q5_1 => "q5_1",
            Self::Q5_0 => "q5_0",
            Self::Q4_1 => "q4_1",
            Self::Q4_0 => "q4_0",
            Self::Iq4Nl => "iq4_nl",
        }
    }

    /// Whether blocks of [`KV_BLOCK`] numbers share a scale.
    #[must_use]
    pub fn is_quantised(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }
}

impl fmt::Display for FlashAttention {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Display for Attention {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "flash attention {}, K {}, V {}", self.flash, self.kv_type_k, self.kv_type_v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_quantised_values_without_flash_attention_are_refused() {
        for flash in FlashAttention::ALL {
            for kv_type_k in KvType::ALL {
                for kv_type_v in KvType::ALL {
                    let attention = Attention { flash, kv_type_k, kv_type_v };
                    let refused = flash == FlashAttention::Off && kv_type_v.is_quantised();
                    let expected =
                        if refused { Err(AttentionError::QuantisedValues(kv_type_v)) } else { Ok(attention) };
                    assert_eq!(attention.check(), expected);
                }
            }
        }
        let said = AttentionError::QuantisedValues(KvType::Q8_0).to_string();
        assert!(said.starts_with("values of type q8_0 need flash attention"), "{said}");
    }
}
