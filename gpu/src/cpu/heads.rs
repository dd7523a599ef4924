//! Heads over the same vectors: linear ones and networks of several layers, many in one pass.
//!
//! The first layers of all heads are one layer, side by side, so that every vector is read once.

use super::gemm::{Layer, ROWS, Rows};

/// Heads that read vectors of one depth.
#[derive(Debug, Clone)]
pub struct Heads {
    first: Layer,
    heads: Vec<Head>,
    /// Of all heads together.
    width: usize,
}

#[derive(Debug, Clone)]
struct Head {
    /// Where its first layer's numbers begin in a row of all.
    start: usize,
    /// How many they are.
    first_width: usize,
    /// The layers behind the first.
    rest: Vec<Layer>,
}

impl Head {
    fn width(&self) -> usize {
        self.rest.last().map_or(self.first_width, Layer::width)
    }
}

/// Buffers that serve again.
#[derive(Debug, Default)]
pub struct Scratch {
    first: Vec<f32>,
    layers: [Vec<f32>; 2],
}

impl Heads {
    /// Heads of one or more layers each, in order.
    ///
    /// # Panics
    /// If there is no head, a head has no layer, layers do not fit each other, or first layers are of several depths.
    pub fn new(heads: &[Vec<Layer>]) -> Self {
        let firsts: Vec<Layer> = heads.iter().map(|layers| layers.first().expect("a head has a layer").clone()).collect();
        let (mut start, mut all) = (0, Vec::new());
        for layers in heads {
            assert!(layers.windows(2).all(|pair| pair[0].width() == pair[1].depth()), "layers that do not fit each other");
            let first_width = layers[0].width();
            all.push(Head { start, first_width, rest: layers[1..].to_vec() });
            start += first_width;
        }
        Self { first: Layer::side_by_side(&firsts), width: all.iter().map(Head::width).sum(), heads: all }
    }

    /// Numbers of a vector.
    pub fn depth(&self) -> usize {
        self.first.depth()
    }

    /// Numbers that all heads give together.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The first layers of all heads, side by side.
    pub fn first(&self) -> &Layer {
        &self.first
    }

    /// Of each head: where its numbers begin among those of the first layer, and the layers behind it.
    pub fn parts(&self) -> impl Iterator<Item = (usize, &[Layer])> {
        self.heads.iter().map(|head| (head.start, head.rest.as_slice()))
    }

    /// How many numbers each head gives.
    pub fn widths(&self) -> impl Iterator<Item = usize> {
        self.heads.iter().map(Head::width)
    }

    /// What the heads give for rows, added to `out`: `[n][width]`, head after head. One thread's work.
    ///
    /// # Panics
    /// If rows are of another depth.
    pub fn apply(&self, rows: Rows<'_>, scratch: &mut Scratch, out: &mut Vec<f32>) {
        let Scratch { first, layers: [input, output] } = scratch;
        for start in (0..rows.len()).step_by(ROWS) {
            let n = ROWS.min(rows.len() - start);
            first.resize(n * self.first.width(), 0.0);
            self.first.apply(rows.slice(start, n), first);
            let at = out.len();
            out.resize(at + n * self.width, 0.0);
            let mut column = 0;
            for head in &self.heads {
                let (first, mut stride) = (&first[head.start..], self.first.width());
                for (number, layer) in head.rest.iter().enumerate() {
                    output.resize(n * layer.width(), 0.0);
                    let from = if number == 0 { first } else { input.as_slice() };
                    layer.apply(Rows::new(from, n, layer.depth(), stride), output);
                    std::mem::swap(input, output);
                    stride = layer.width();
                }
                let from = if head.rest.is_empty() { first } else { input.as_slice() };
                let width = head.width();
                for (row, out) in from.chunks(stride).zip(out[at..].chunks_exact_mut(self.width)) {
                    out[column..column + width].copy_from_slice(&row[..width]);
                }
                column += width;
            }
        }
    }

    /// The same, one number after the other: what [`Heads::apply`] and the shader are held to. `[n][width]`.
    ///
    /// # Panics
    /// If rows are of another depth.
    pub fn apply_plain(&self, rows: Rows<'_>) -> Vec<f32> {
        let mut out = Vec::with_capacity(rows.len() * self.width);
        let give = |row: &[f32], layer: &Layer| layer.apply_plain(Rows::new(row, 1, layer.depth(), layer.depth()));
        for row in 0..rows.len() {
            let first = give(rows.row(row), &self.first);
            for head in &self.heads {
                let own = first[head.start..head.start + head.first_width].to_vec();
                out.extend(head.rest.iter().fold(own, |row, layer| give(&row, layer)));
            }
        }
        out
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cpu::gemm::Activation;
    use crate::cpu::gemm::tests::{bits, numbers};

    fn layer(depth: usize, width: usize, activation: Activation) -> Layer {
        Layer::new(depth, numbers(depth * width, depth as u64), numbers(width, width as u64), activation)
    }

    /// Heads of one to three layers; ten numbers together.
    pub(crate) fn sample(depth: usize) -> Vec<Vec<Layer>> {
        vec![
            vec![layer(depth, 1, Activation::None)],
            vec![layer(depth, 30, Activation::Gelu), layer(30, 1, Activation::Sigmoid)],
            vec![layer(depth, 5, Activation::Tanh)],
            vec![layer(depth, 64, Activation::Relu), layer(64, 17, Activation::Silu), layer(17, 3, Activation::None)],
        ]
    }

    fn apply(heads: &Heads, rows: &[f32]) -> Vec<f32> {
        let (mut scratch, mut out) = (Scratch::default(), Vec::new());
        heads.apply(Rows::new(rows, rows.len() / heads.depth(), heads.depth(), heads.depth()), &mut scratch, &mut out);
        out
    }

    #[test]
    fn a_network_worked_out_by_hand() {
        // Hidden: relu(1 - 2) = 0 and relu(2·1 + 2 - 1) = 3; out: 5·0 + 2·3 + 1 = 7. Beside it, 1 + 2 = 3.
        let network = vec![
            Layer::new(2, vec![1.0, -1.0, 2.0, 1.0], vec![0.0, -1.0], Activation::Relu),
            Layer::new(2, vec![5.0, 2.0], vec![1.0], Activation::None),
        ];
        let linear = vec![Layer::new(2, vec![1.0, 1.0], vec![0.0], Activation::None)];
        let heads = Heads::new(&[network, linear]);
        assert_eq!(heads.widths().collect::<Vec<_>>(), [1, 1]);
        assert_eq!(bits(&apply(&heads, &[1.0, 2.0])), bits(&[7.0, 3.0]));
        assert!(apply(&heads, &[]).is_empty());
    }

    #[test]
    fn together_they_give_what_each_gives_alone() {
        let depth = 300;
        let layers = sample(depth);
        let heads = Heads::new(&layers);
        assert_eq!(heads.widths().collect::<Vec<_>>(), [1, 1, 5, 3]);
        for n in [1, 2, 255, 256, 257, 600] {
            let mut rows = numbers(n * depth, 7);
            rows[n / 2 * depth..][..depth].fill(0.0);
            let plain = heads.apply_plain(Rows::new(&rows, n, depth, depth));
            assert_eq!(bits(&apply(&heads, &rows)), bits(&plain), "{n} rows");
            // Alone, the last row has the same bits.
            assert_eq!(bits(&apply(&heads, &rows[(n - 1) * depth..])), bits(&plain[(n - 1) * 10..]));
            let (mut column, mut of_each) = (0, vec![0.0; plain.len()]);
            for layers in &layers {
                let head = Heads::new(std::slice::from_ref(layers));
                let alone = apply(&head, &rows);
                for (row, alone) in of_each.chunks_exact_mut(10).zip(alone.chunks_exact(head.width())) {
                    row[column..column + head.width()].copy_from_slice(alone);
                }
                column += head.width();
            }
            assert_eq!(bits(&of_each), bits(&plain), "{n} rows, a head at a time");
        }
    }

    #[test]
    fn one_number_changed_is_noticed() {
        let heads = Heads::new(&sample(40));
        let mut rows = numbers(3 * 40, 7);
        let plain = heads.apply_plain(Rows::new(&rows, 3, 40, 40));
        rows[60] += 1e-3;
        assert_ne!(bits(&apply(&heads, &rows)), bits(&plain));
    }
}
