//! What is judged by: criteria, each with its scale.

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::llm::AnswerField;

/// What rows are judged by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Written", into = "Written")]
#[schemars(with = "Written", inline)]
pub struct Rubric {
    text: Option<String>,
    criteria: Vec<Criterion>,
}

/// One of the things that are scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Criterion {
    /// What it is called: the column of its score.
    pub name: String,
    /// What a high score means, and what a low one.
    pub description: String,
    /// The worst score.
    #[serde(default = "one")]
    pub min: f64,
    /// The best score.
    #[serde(default = "five")]
    pub max: f64,
}

fn one() -> f64 {
    1.0
}

fn five() -> f64 {
    5.0
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Written {
    /// A text: one score from 1 to 5, called `score`.
    Text(String),
    /// Several criteria.
    Criteria(#[schemars(length(min = 1))] Vec<Criterion>),
}

impl TryFrom<Written> for Rubric {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let criteria = match written {
            Written::Text(text) => {
                if text.trim().is_empty() {
                    return Err("wanted what rows are judged by, found an empty text".to_owned());
                }
                let score =
                    Criterion { name: "score".to_owned(), description: "how well it meets the rubric".to_owned(), min: 1.0, max: 5.0 };
                return Ok(Self { text: Some(text), criteria: vec![score] });
            }
            Written::Criteria(criteria) => criteria,
        };
        if criteria.is_empty() {
            return Err("wanted one or more criteria".to_owned());
        }
        let names: BTreeSet<&str> = criteria.iter().map(|criterion| criterion.name.as_str()).collect();
        if names.len() < criteria.len() || names.contains("") {
            return Err("each criterion has a name of its own".to_owned());
        }
        let is_scale = |criterion: &&Criterion| criterion.min.is_finite() && criterion.max.is_finite() && criterion.min < criterion.max;
        if let Some(odd) = criteria.iter().find(|criterion| !is_scale(criterion)) {
            return Err(format!("criterion `{}`: wanted `max` above `min`, which is {}, found {}", odd.name, odd.min, odd.max));
        }
        Ok(Self { text: None, criteria })
    }
}

impl From<Rubric> for Written {
    fn from(rubric: Rubric) -> Self {
        match rubric.text {
            Some(text) => Self::Text(text),
            None => Self::Criteria(rubric.criteria),
        }
    }
}

impl Rubric {
    /// What is scored, in order.
    pub fn criteria(&self) -> &[Criterion] {
        &self.criteria
    }

    /// What the model is told to judge by; the scales of criteria are told with the form of the answer.
    pub(super) fn told(&self) -> String {
        match &self.text {
            Some(text) => format!("Judge by this rubric:\n{}", text.trim()),
            None => "Judge by each of the criteria below.".to_owned(),
        }
    }

    /// What the model is told to compare two answers by.
    pub(super) fn told_of_pairs(&self) -> String {
        if let Some(text) = &self.text {
            return format!("Say which of the two is better, by this rubric:\n{}", text.trim());
        }
        let line = |criterion: &Criterion| format!("\n- {}: {}", criterion.name, criterion.description);
        format!("Say which of the two is better, by these criteria together:{}", self.criteria.iter().map(line).collect::<String>())
    }
}

impl Criterion {
    /// The field of an answer that holds its score.
    pub(super) fn field(&self) -> AnswerField {
        let is_whole = self.min.fract() == 0.0 && self.max.fract() == 0.0;
        let data_type = if is_whole { DataType::Int64 } else { DataType::Float64 };
        AnswerField::number(data_type, self.min, self.max).described(&self.description)
    }

    /// How far two scores are apart, as a share of the scale.
    pub(super) fn apart(&self, a: f64, b: f64) -> f64 {
        (a - b).abs() / (self.max - self.min)
    }
}
