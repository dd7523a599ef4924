//! `concat`: the rows of several stages, one after the other.

use arrow::array::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BuildContext, Emit, Inputs, Kind, RowLocal, Stage, StageConfig, StageError};

/// Gives the rows of all stages in `from`, in the order of the list.
///
/// The stages must give the same columns. Any stage takes a list in `from`; this one gives the result a name of its own, for several readers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcatConfig {}

impl StageConfig for ConcatConfig {
    const NAME: &'static str = "concat";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: concat, from: [books, pages]}";

    fn build(&self, _cx: &BuildContext) -> Result<Stage, StageError> {
        Ok(Stage::RowLocal(Box::new(Concat)))
    }
}

struct Concat;

impl RowLocal for Concat {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        out.rows(batch)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Port;
    use crate::testing::{self, Balance};

    #[test]
    fn it_keeps_the_contract() {
        testing::check_contract::<ConcatConfig>(json!({}), &testing::sample(), Balance::KeptOrDropped);
    }

    #[test]
    fn every_row_goes_on() {
        let got = testing::run::<ConcatConfig>(json!({}), &[(Port::FROM, testing::sample())]);
        assert_eq!(got.rows(), &testing::sample());
    }
}
