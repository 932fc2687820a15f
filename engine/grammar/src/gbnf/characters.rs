//! Sets of characters: each character of ASCII by itself, and all others as one.

/// A set of characters. Two that are told to overlap may yet be disjoint beyond ASCII, never the other way round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Characters {
    ascii: u128,
    others: bool,
}

impl Characters {
    pub(super) const ALL: Self = Self { ascii: u128::MAX, others: true };

    pub(super) fn union(self, other: Self) -> Self {
        Self { ascii: self.ascii | other.ascii, others: self.others || other.others }
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.ascii & other.ascii != 0 || (self.others && other.others)
    }

    pub(super) fn one(character: char) -> Self {
        if character.is_ascii() {
            Self { ascii: 1 << u32::from(character), others: false }
        } else {
            Self { ascii: 0, others: true }
        }
    }

    fn range(first: char, last: char) -> Self {
        let ascii = (u32::from(first)..=u32::from(last).min(127)).map(|code| 1u128 << code);
        Self { ascii: ascii.fold(0, |set, bit| set | bit), others: !last.is_ascii() }
    }

    pub(super) fn class(negated: bool, ranges: &[(char, char)]) -> Self {
        let set = ranges.iter().map(|(first, last)| Self::range(*first, *last)).fold(Self::default(), Self::union);
        if negated { Self { ascii: !set.ascii, others: true } } else { set }
    }
}
