//! Slots: plain threads that take tasks from one ordered queue.
//!
//! A task that cuts its own work into pieces (the reader of a large compressed file) hands pieces to slots that have nothing else to do; it
//! never waits for a free one, and it waits for a piece only when nobody can be given it any more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

/// Where a task stands in the queue: unit, step, task.
pub(super) type Order = (usize, usize, usize);

/// The slots of a run.
pub(super) struct Pool {
    queue: Mutex<Queue>,
    changed: Condvar,
    slots: usize,
}

#[derive(Default)]
struct Queue {
    tasks: BTreeMap<Order, (usize, Job)>,
    pieces: VecDeque<Arc<dyn Runnable>>,
    /// Slots in use, heavy tasks counted as many.
    busy: usize,
    closed: bool,
}

impl Pool {
    /// A pool and its threads, which end after [`Pool::close`].
    pub(super) fn start(slots: usize) -> (Arc<Self>, Vec<JoinHandle<()>>) {
        let pool = Arc::new(Self { queue: Mutex::default(), changed: Condvar::new(), slots: slots.max(1) });
        let threads = (0..pool.slots)
            .map(|_| {
                let pool = Arc::clone(&pool);
                std::thread::spawn(move || pool.work())
            })
            .collect();
        (pool, threads)
    }

    /// How many tasks run at once.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Queues a task that takes `weight` slots. A job must not unwind; what it has to say it says itself.
    pub(super) fn submit(&self, order: Order, weight: usize, job: impl FnOnce() + Send + 'static) {
        self.lock().tasks.insert(order, (weight.clamp(1, self.slots), Box::new(job)));
        self.changed.notify_all();
    }

    /// Forgets the tasks that nobody has begun.
    pub(super) fn clear(&self) -> usize {
        std::mem::take(&mut self.lock().tasks).len()
    }

    /// Lets the threads end once the queue is empty.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Does `job` on a slot that has nothing else to do; if there is none, does it here and now.
    pub(super) fn share<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Piece<T> {
        let cell = Arc::new(Cell { state: Mutex::new(State::Open(Box::new(job))), done: Condvar::new() });
        let mut queue = self.lock();
        if queue.tasks.is_empty() && queue.busy + queue.pieces.len() < self.slots {
            queue.pieces.push_back(Arc::clone(&cell) as Arc<dyn Runnable>);
            drop(queue);
            self.changed.notify_all();
        } else {
            drop(queue);
            cell.run();
        }
        Piece(cell)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut queue = self.lock();
        loop {
            if queue.busy < self.slots
                && let Some(piece) = queue.pieces.pop_front()
            {
                queue = self.occupy(queue, 1, || piece.run());
                continue;
            }
            let fits = queue.tasks.first_key_value().is_some_and(|(_, (weight, _))| queue.busy + weight <= self.slots);
            if fits && let Some((_, (weight, job))) = queue.tasks.pop_first() {
                queue = self.occupy(queue, weight, job);
                continue;
            }
            if queue.closed && queue.tasks.is_empty() {
                return;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn occupy<'q>(&'q self, mut queue: MutexGuard<'q, Queue>, weight: usize, job: impl FnOnce()) -> MutexGuard<'q, Queue> {
        queue.busy += weight;
        drop(queue);
        job();
        let mut queue = self.lock();
        queue.busy -= weight;
        self.changed.notify_all();
        queue
    }
}

trait Runnable: Send + Sync {
    fn run(&self);
}

/// A piece of a task that may be done by another slot.
pub(super) struct Piece<T>(Arc<Cell<T>>);

struct Cell<T> {
    state: Mutex<State<T>>,
    done: Condvar,
}

enum State<T> {
    Open(Box<dyn FnOnce() -> T + Send>),
    Running,
    Done(T),
    Taken,
}

impl<T: Send> Runnable for Cell<T> {
    fn run(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Running) {
            State::Open(job) => {
                drop(state);
                let result = job();
                *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Done(result);
                self.done.notify_all();
            }
            other => *state = other,
        }
    }
}

impl<T: Send> Piece<T> {
    /// Whether it is done, so that [`Piece::join`] does not wait.
    pub(super) fn is_done(&self) -> bool {
        matches!(*self.0.state.lock().unwrap_or_else(PoisonError::into_inner), State::Done(_))
    }

    /// The piece's result; does the piece itself if nobody has begun it. `None` if the result was taken.
    pub(super) fn join(self) -> Option<T> {
        self.0.run();
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        while matches!(*state, State::Running) {
            state = self.0.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(result) => Some(result),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn tasks_run_in_order_on_one_slot_and_pieces_are_never_lost() {
        let (pool, threads) = Pool::start(1);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (all_queued, wait) = std::sync::mpsc::channel::<()>();
        pool.submit((0, 0, 0), 1, move || {
            let _ = wait.recv();
        });
        for task in (0..20).rev() {
            let (seen, pool_inside) = (Arc::clone(&seen), Arc::clone(&pool));
            pool.submit((0, 1, task), 1, move || {
                let pieces: Vec<_> = (0..3).map(|piece| pool_inside.share(move || piece)).collect();
                let pieces: Vec<_> = pieces.into_iter().map(Piece::join).collect();
                seen.lock().expect("no task unwinds").push((task, pieces));
            });
        }
        all_queued.send(()).expect("the first task waits");
        pool.close();
        threads.into_iter().for_each(|thread| thread.join().expect("no task unwinds"));
        let seen = Arc::into_inner(seen).expect("all done").into_inner().expect("no task unwinds");
        assert_eq!(seen, (0..20).map(|task| (task, vec![Some(0), Some(1), Some(2)])).collect::<Vec<_>>());
    }

    #[test]
    fn idle_slots_take_pieces_and_a_heavy_task_runs_alone() {
        let (pool, threads) = Pool::start(4);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for task in 0..8 {
            let (running, most, pool_inside) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&pool));
            pool.submit((0, 0, task), 4, move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let sum: usize =
                    (0..50).map(|piece| pool_inside.share(move || piece)).collect::<Vec<_>>().into_iter().filter_map(Piece::join).sum();
                assert_eq!(sum, 1225);
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        pool.close();
        threads.into_iter().for_each(|thread| thread.join().expect("no task unwinds"));
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }
}
