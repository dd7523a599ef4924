//! The rules of the chosen sets in their order, and what has to be known of a text to decide by them.

use super::FilterTextConfig;
use super::c4::Cleaner;
use super::scan::{Scan, StopWords};
use super::settings::{Limit, RuleSet, Threshold};
use super::stats::{Stat, StatSet, Stats};
use crate::units::Fraction;
use crate::{Dropped, Measure};

/// What happens to a text, step by step.
#[derive(Debug)]
pub(super) struct Plan {
    steps: Vec<Step>,
    /// The numbers that decide, with their bounds.
    pub(super) measures: Vec<(Stat, Measure)>,
    /// Whether texts that are dropped go through the later steps, for their statistics.
    thorough: bool,
}

/// Sets of rules side by side that judge the same text, or the one that changes it.
#[derive(Debug)]
pub(super) enum Step {
    Scan(Judge),
    Clean { cleaner: Cleaner, rules: Vec<Rule> },
}

/// What is found out about a text, and the rules that decide by it.
#[derive(Debug, Default)]
pub(super) struct Judge {
    pub(super) wanted: StatSet,
    rules: Vec<Rule>,
    pub(super) stop_words: StopWords,
    pub(super) short_line_chars: u64,
    /// Whether FineWeb's rules are among them.
    pub(super) counts_lines: bool,
}

/// One rule.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// Drops texts without a character, as datatrove's repetition does.
    HasText,
    /// Drops texts without a line that is not blank, as FineWeb's rules do.
    HasLines,
    AtLeast {
        name: &'static str,
        stat: Stat,
        at: f64,
        or_zero: bool,
    },
    AtMost {
        name: &'static str,
        stat: Stat,
        at: f64,
    },
}

impl Rule {
    fn stat(self) -> Option<Stat> {
        match self {
            Self::HasText | Self::HasLines => None,
            Self::AtLeast { stat, .. } | Self::AtMost { stat, .. } => Some(stat),
        }
    }

    fn verdict(self, text: &str, scan: &Scan, stats: &Stats) -> Option<Dropped> {
        let empty = |is_empty: bool| is_empty.then_some(Dropped { reason: "empty", value: None, threshold: None, duplicate_of: None });
        match self {
            Self::HasText => empty(text.is_empty()),
            Self::HasLines => empty(scan.n_lines == 0),
            Self::AtLeast { name, stat, at, or_zero } => {
                let value = stats.get(stat);
                (value < at && !(or_zero && value == 0.0)).then(|| Dropped::measured(name, value, at))
            }
            Self::AtMost { name, stat, at } => {
                let value = stats.get(stat);
                (value > at).then(|| Dropped::measured(name, value, at))
            }
        }
    }
}

fn at_least<T: Threshold>(name: &'static str, stat: Stat, limit: Limit<T>) -> Option<Rule> {
    limit.threshold().map(|at| Rule::AtLeast { name, stat, at: at.number(), or_zero: false })
}

fn at_most<T: Threshold>(name: &'static str, stat: Stat, limit: Limit<T>) -> Option<Rule> {
    limit.threshold().map(|at| Rule::AtMost { name, stat, at: at.number() })
}

/// The rules of a set that are on, in the order in which they decide.
fn rules_of(set: RuleSet, config: &FilterTextConfig) -> Vec<Rule> {
    let all = match set {
        RuleSet::GopherQuality => {
            let of = &config.gopher_quality;
            vec![
                at_least("min_words", Stat::NWords, of.min_words),
                at_most("max_words", Stat::NWords, of.max_words),
                at_least("min_mean_word_length", Stat::MeanWordLength, of.min_mean_word_length),
                at_most("max_mean_word_length", Stat::MeanWordLength, of.max_mean_word_length),
                at_most("max_hash_ratio", Stat::HashRatio, of.max_hash_ratio),
                at_most("max_ellipsis_ratio", Stat::EllipsisRatio, of.max_ellipsis_ratio),
                at_most("max_bullet_lines", Stat::BulletLines, of.max_bullet_lines),
                at_most("max_ellipsis_lines", Stat::EllipsisLines, of.max_ellipsis_lines),
                at_least("min_alphabetic_words", Stat::AlphabeticWords, of.min_alphabetic_words),
                at_least("min_stop_words", Stat::NStopWords, of.min_stop_words),
            ]
        }
        RuleSet::GopherRepetition => {
            let of = &config.gopher_repetition;
            vec![
                Some(Rule::HasText),
                at_most("max_duplicate_paragraphs", Stat::DuplicateParagraphs, of.max_duplicate_paragraphs),
                at_most("max_duplicate_paragraph_chars", Stat::DuplicateParagraphChars, of.max_duplicate_paragraph_chars),
                at_most("max_duplicate_lines", Stat::DuplicateLines, of.max_duplicate_lines),
                at_most("max_duplicate_line_chars", Stat::DuplicateLineChars, of.max_duplicate_line_chars),
                at_most("max_top_2_gram", Stat::Top2Gram, of.max_top_2_gram),
                at_most("max_top_3_gram", Stat::Top3Gram, of.max_top_3_gram),
                at_most("max_top_4_gram", Stat::Top4Gram, of.max_top_4_gram),
                at_most("max_duplicate_5_grams", Stat::Duplicate5Grams, of.max_duplicate_5_grams),
                at_most("max_duplicate_6_grams", Stat::Duplicate6Grams, of.max_duplicate_6_grams),
                at_most("max_duplicate_7_grams", Stat::Duplicate7Grams, of.max_duplicate_7_grams),
                at_most("max_duplicate_8_grams", Stat::Duplicate8Grams, of.max_duplicate_8_grams),
                at_most("max_duplicate_9_grams", Stat::Duplicate9Grams, of.max_duplicate_9_grams),
                at_most("max_duplicate_10_grams", Stat::Duplicate10Grams, of.max_duplicate_10_grams),
            ]
        }
        RuleSet::C4 => vec![at_least("min_sentences", Stat::NSentences, config.c4.min_sentences)],
        RuleSet::Fineweb => {
            let of = &config.fineweb;
            let punctuated = of.min_punctuated_lines.threshold().map(Fraction::get);
            let or_zero = of.allow_unpunctuated;
            vec![
                Some(Rule::HasLines),
                punctuated.map(|at| Rule::AtLeast { name: "min_punctuated_lines", stat: Stat::PunctuatedLines, at, or_zero }),
                at_most("max_short_lines", Stat::ShortLines, of.max_short_lines),
                at_most("max_repeated_line_chars", Stat::RepeatedLineChars, of.max_repeated_line_chars),
                at_most("max_newlines_per_word", Stat::NewlinesPerWord, of.max_newlines_per_word),
            ]
        }
        RuleSet::SlimpajamaShort => vec![at_least("min_clean_chars", Stat::NCleanChars, config.slimpajama_short.min_clean_chars)],
    };
    all.into_iter().flatten().collect()
}

impl Plan {
    /// The plan of settings that were checked; `kept` are the statistics that become columns.
    pub(super) fn new(config: &FilterTextConfig, kept: &[Stat]) -> Self {
        let mut plan = Self { steps: Vec::new(), measures: Vec::new(), thorough: !kept.is_empty() };
        for set in &config.rules {
            let rules = rules_of(*set, config);
            plan.measures.extend(measures(&rules));
            let mut wanted = StatSet::default();
            let kept = kept.iter().copied().filter(|stat| stat.set() == *set);
            rules.iter().filter_map(|rule| rule.stat()).chain(kept).for_each(|stat| wanted.insert(stat));
            if *set == RuleSet::C4 {
                let cleaner = Cleaner::new(config.c4.clone(), wanted.contains(Stat::NSentences), plan.thorough);
                plan.steps.push(Step::Clean { cleaner, rules });
                continue;
            }
            if !matches!(plan.steps.last(), Some(Step::Scan(_))) {
                plan.steps.push(Step::Scan(Judge::default()));
            }
            let Some(Step::Scan(judge)) = plan.steps.last_mut() else { continue };
            judge.rules.extend(rules);
            judge.wanted.join(wanted);
            if wanted.contains(Stat::NStopWords) {
                judge.stop_words = StopWords::new(&config.gopher_quality.stop_words);
            }
            if *set == RuleSet::Fineweb {
                judge.short_line_chars = config.fineweb.short_line_chars;
                judge.counts_lines = true;
            }
        }
        plan
    }

    /// The statistics that the rules that are on decide by.
    pub(super) fn decided_by(config: &FilterTextConfig) -> Vec<Stat> {
        let mut stats: Vec<Stat> = Vec::new();
        for stat in config.rules.iter().flat_map(|set| rules_of(*set, config)).filter_map(Rule::stat) {
            if !stats.contains(&stat) {
                stats.push(stat);
            }
        }
        stats
    }

    /// Whether rows that are kept leave with another text.
    pub(super) fn changes_text(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Clean { .. }))
    }

    /// Decides about `text`: why it is dropped, if it is. `is_exempt`: it may be short. `scan.cleaned` then holds the text as it leaves, where it is changed.
    pub(super) fn judge(&self, text: &str, is_exempt: bool, scan: &mut Scan, stats: &mut Stats) -> Option<Dropped> {
        let mut why: Option<Dropped> = None;
        let mut is_cleaned = false;
        for step in &self.steps {
            let rules = match step {
                Step::Scan(judge) => {
                    stats.take_only(judge.wanted);
                    scan.read(text, is_cleaned, judge, stats);
                    &judge.rules
                }
                Step::Clean { cleaner, rules } => {
                    is_cleaned = true;
                    stats.take_only(StatSet::ALL);
                    let reason = cleaner.clean(text, &mut scan.splitter, &mut scan.cleaned, stats);
                    let line = reason.map(|reason| Dropped { reason, value: None, threshold: None, duplicate_of: None });
                    why = why.or(line);
                    rules
                }
            };
            if why.is_none() {
                let text = if is_cleaned { scan.cleaned.text() } else { text };
                let rules = rules.iter().filter(|rule| !(is_exempt && rule.stat() == Some(Stat::NCleanChars)));
                why = rules.into_iter().find_map(|rule| rule.verdict(text, scan, stats));
            }
            if why.is_some() && !self.thorough {
                break;
            }
        }
        why
    }
}

/// The numbers that rules decide by, each with the bounds of all rules about it.
fn measures(rules: &[Rule]) -> Vec<(Stat, Measure)> {
    let mut measures: Vec<(Stat, Measure)> = Vec::new();
    for rule in rules {
        let Some(stat) = rule.stat() else { continue };
        let known = measures.iter().position(|(of, _)| *of == stat);
        let measure = known.map_or_else(|| Measure::new(stat.name(), stat.what()), |at| measures.remove(at).1);
        let measure = match *rule {
            Rule::AtLeast { name, at, .. } => measure.at_least(name, at),
            Rule::AtMost { name, at, .. } => measure.at_most(name, at),
            Rule::HasText | Rule::HasLines => measure,
        };
        measures.push((stat, measure));
    }
    measures
}
