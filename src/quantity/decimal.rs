//! Decimal numbers in front of units, as in `1.5h` and `1.5GiB`.

/// A number without a sign, such as `1.5`, `1.` or `.5`: its digits before and after the point.
pub(super) struct Decimal<'a> {
    whole: &'a str,
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    /// Splits the number off the beginning of `text`; `None` if there is none.
    pub(super) fn split(text: &'a str) -> Option<(Self, &'a str)> {
        let digits = |text: &'a str| text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let (whole, rest) = digits(text);
        let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
        let is_number = !(whole.is_empty() && fraction.is_empty());
        is_number.then_some((Self { whole, fraction }, rest))
    }

    /// Multiplies the number by `unit`, and drops the fraction of the product; `None` if 64 bits do not hold it.
    pub(super) fn times(&self, unit: u64) -> Option<u64> {
        let unit = u128::from(unit);
        let whole: u128 = if self.whole.is_empty() { 0 } else { self.whole.parse().ok()? };
        // Nineteen digits of a fraction, in any unit, fit in 128 bits; further digits add almost nothing.
        let fraction = &self.fraction[..self.fraction.len().min(19)];
        let parts = fraction.parse().unwrap_or(0) * unit / 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        u64::try_from(whole.checked_mul(unit)?.checked_add(parts)?).ok()
    }
}
