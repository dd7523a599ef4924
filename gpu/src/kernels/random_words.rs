//! Random words by counter. No stage wants them alone; the tests prove the generator that other shaders import, and the device layer with it.

use crate::{Gpu, GpuError, shaders};

/// Blocks `0..blocks` of a key at a place.
fn random_words(gpu: &Gpu, key: [u32; 2], place: u32, blocks: u32) -> Result<Vec<u32>, GpuError> {
    let mut batch = gpu.batch("random words")?;
    let params = batch.upload(&[key[0], key[1], blocks, place])?;
    let words = batch.empty::<u32>(blocks as usize * 4)?;
    batch.dispatch_each(&shaders::random_words::RANDOM_WORDS, &[], &[&params, &words], blocks as usize)?;
    let words = batch.download::<u32>(&words, blocks as usize * 4)?;
    batch.submit()?.wait()?.get(words)
}

mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::cpu::counter_rng::philox;
    use crate::twins::{Tolerance, adapter, assert_twins, open_within};
    use crate::{Limits, Ran};

    fn twin(key: [u32; 2], place: u32, blocks: u32) -> Vec<u32> {
        (0..blocks).flat_map(|block| philox(key, [block, place, 0, 0])).collect()
    }

    #[test]
    fn words_are_those_of_the_twin() {
        let Some(gpu) = adapter() else { return };
        for (key, blocks) in [([7, 9], 0), ([7, 9], 1), ([u32::MAX, 0x8000_0000], 65), ([1, 2], 100_000)] {
            assert_twins(&format!("{blocks} blocks"), &twin(key, 5, blocks), &random_words(gpu, key, 5, blocks).unwrap(), Tolerance::Equal);
        }
    }

    #[test]
    fn structs_lie_where_the_host_puts_them() {
        let layout = &shaders::random_words::RANDOM_WORDS_LAYOUT;
        assert_eq!((layout.bytes, layout.members), (16, &[("key", 0), ("blocks", 8), ("place", 12)][..]));
    }

    #[test]
    fn low_limits_make_smaller_workgroups_and_grids_of_two_dimensions() {
        // 1,000 blocks of words in workgroups of 16, at most 4 along a dimension; a binding of 16 kB holds them and no more.
        let limits = Limits { max_binding_bytes: 16_000, max_workgroups: 4, max_workgroup_lanes: 16, max_shared_bytes: 16_384 };
        let Some(device) = open_within(Some(&limits)) else { return };
        let gpu = device.gpu().unwrap();
        assert_eq!(random_words(gpu, [1, 2], 3, 200).unwrap(), twin([1, 2], 3, 200));
        // 63 groups are more than 4 * 4.
        let error = random_words(gpu, [1, 2], 3, 1000).unwrap_err();
        assert_eq!(error, GpuError::TooLarge { what: "a dispatch (workgroups)", wanted: 63, limit: 16 });
        let error = random_words(gpu, [1, 2], 3, 1001).unwrap_err();
        assert_eq!(error, GpuError::TooLarge { what: "a buffer (bytes)", wanted: 16_016, limit: 16_000 });
        // Nothing of this is the device's fault.
        let (_, ran) = device.run(|gpu| random_words(gpu, [1, 2], 3, 1001), Vec::new);
        assert_eq!(ran, Ran::FellBack("a buffer (bytes) needs 16016, and the adapter allows 16000".to_owned()));
        assert_eq!(device.run(|gpu| random_words(gpu, [1, 2], 3, 8), Vec::new).1, Ran::Gpu);
    }

    #[test]
    fn many_threads_share_a_device() {
        let Some(gpu) = adapter() else { return };
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                scope.spawn(move || {
                    for round in 0..8 {
                        let blocks = 100 + thread * 333 + round;
                        assert_eq!(random_words(gpu, [thread, round], thread, blocks).unwrap(), twin([thread, round], thread, blocks));
                    }
                });
            }
        });
    }

    #[test]
    fn pieces_come_back_in_order() {
        let Some(gpu) = adapter() else { return };
        let places: Vec<u32> = (0..11).collect();
        let one_at_a_time = |batch: &mut crate::Batch<'_>, piece: &[u32]| {
            let params = batch.upload(&[3, 4, 1, piece[0]])?;
            let words = batch.empty::<u32>(4)?;
            batch.dispatch_each(&shaders::random_words::RANDOM_WORDS, &[], &[&params, &words], 1)?;
            batch.download::<u32>(&words, 4)
        };
        let words = gpu.in_pieces(&places, 1, one_at_a_time, |download, results, words| {
            words.extend(results.get(download)?);
            Ok(())
        });
        assert_eq!(words.unwrap(), places.iter().flat_map(|&place| twin([3, 4], place, 1)).collect::<Vec<_>>());
    }

    #[test]
    fn buffers_are_used_again() {
        let Some(device) = open_within(None) else { return };
        let gpu = device.gpu().unwrap();
        for round in 0..5 {
            assert_eq!(random_words(gpu, [1, round], 2, 10).unwrap(), twin([1, round], 2, 10));
            assert_eq!(gpu.idle_buffers(), 3, "parameters, words, words read back");
        }
    }

    #[test]
    fn a_device_that_is_lost_finishes_on_the_twin() {
        let Some(device) = open_within(None) else { return };
        device.gpu().unwrap().lose_after(2);
        let run = |blocks| device.run(|gpu| random_words(gpu, [1, 2], 3, blocks), || twin([1, 2], 3, blocks));
        for blocks in 1..=5 {
            let (words, ran) = run(blocks);
            assert_eq!(words, twin([1, 2], 3, blocks));
            let want = if blocks <= 2 { Ran::Gpu } else { Ran::FellBack("the device is lost: a test wanted it lost".to_owned()) };
            assert_eq!(ran, want, "{blocks}");
        }
        assert_eq!(device.gpu().unwrap().lost(), Some("a test wanted it lost"));
    }

    #[test]
    fn threads_on_a_device_that_is_lost_all_finish_on_the_twin() {
        for after in [0, 1, 5, 17] {
            let Some(device) = open_within(None) else { return };
            device.gpu().unwrap().lose_after(after);
            let fell_back = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for thread in 0..3_u32 {
                    let (device, fell_back) = (&device, &fell_back);
                    scope.spawn(move || {
                        for round in 0..8 {
                            let blocks = 1000 * (thread + 1) + round;
                            let (words, ran) =
                                device.run(|gpu| random_words(gpu, [1, thread], round, blocks), || twin([1, thread], round, blocks));
                            assert_eq!(words, twin([1, thread], round, blocks));
                            fell_back.fetch_add(usize::from(ran != Ran::Gpu), Ordering::Relaxed);
                        }
                    });
                }
            });
            // Work that was on its way may fall back too.
            let least = 24 - usize::try_from(after).unwrap();
            assert!(fell_back.into_inner() >= least, "{after}");
        }
    }

    #[test]
    fn an_error_of_ours_is_an_error_and_no_panic() {
        let Some(device) = open_within(None) else { return };
        let wrong = |gpu: &Gpu| {
            let mut batch = gpu.batch("wrong")?;
            let words = batch.empty::<u32>(4)?;
            batch.dispatch(&shaders::random_words::RANDOM_WORDS, &[], &[&words], [1; 3])
        };
        let error = device.gpu().unwrap().lost().map_or_else(|| wrong(device.gpu().unwrap()), |_| Ok(())).unwrap_err();
        assert!(error.to_string().ends_with("`random_words` takes [\"params\", \"words\"], and 1 buffers came"), "{error}");
        // One that only the driver's layer sees: a buffer that is read and written at once.
        let wrong = |gpu: &Gpu| {
            let mut batch = gpu.batch("wrong")?;
            let words = batch.empty::<u32>(4)?;
            batch.dispatch(&shaders::random_words::RANDOM_WORDS, &[], &[&words, &words], [1; 3])?;
            batch.submit()?.wait()
        };
        assert!(matches!(wrong(device.gpu().unwrap()), Err(GpuError::Internal { .. })));
        assert_eq!(device.run(|gpu| random_words(gpu, [1, 2], 3, 8), Vec::new).1, Ran::Gpu, "the device is as good as before");
    }
}
