// AdamW's moments in bf16: as good as f32 ones, saved and resumed, refused where they would stand still.

#include <boost/test/unit_test.hpp>

#include "framework/train/checkpoint.h"
#include "tests/framework/layout_runs.h"
#include "tests/support/messages.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::test;
using train::Precision;

namespace {

constexpr std::int64_t vocabulary = 50, length = 16, sequences = 8;

Lesson lesson_of(int steps, Dtype moments, Precision precision) {
  Lesson lesson{
      .model = tiny_model(vocabulary),
      .batches = markov_batches(steps, sequences, length, vocabulary),
      .precision = precision,
  };
  lesson.optimizer.moments = moments;
  return lesson;
}

/// A course whose step `at` is saved, and taken up from there with other moments.
Course resumed(const Lesson& lesson, Dtype then, std::size_t at) {
  const TempFolder folder;
  auto first = lesson, second = lesson;
  first.batches.resize(at);
  second.optimizer.moments = then;
  const auto self = comm::make_self_communicator();
  follow(first, {"first"}, *self, [&](train::TrainStep& step) {
    train::CheckpointContents contents{
        .model = lesson.model, .weights = step.weights(), .optimizer = step.optimizer_state(), .tokenizer = {}};
    train::save_checkpoint(folder.path(), 1, contents, 1, *self);
  });
  models::Qwen3 model(lesson.model);
  train::TrainStep step(model, *self, step_options_of(second, {"second"}));
  step.restore(folder.path() / "step-000001");
  Course course;
  const auto keep = [](const std::vector<train::NamedTensor>& tensors, auto& to) {
    for (const auto& [name, tensor] : tensors) to[name] = tensor.floats();
  };
  for (std::size_t i = at; i < lesson.batches.size(); ++i) {
    const auto result = step.run(lesson.batches[i], 4, static_cast<std::int64_t>(i) + 1, lesson.optimizer.lr);
    course.losses.push_back(result.loss);
    course.norms.push_back(result.grad_norm);
  }
  keep(whole(step.weights(), *self), course.weights);
  keep(whole(step.optimizer_state(), *self), course.optimizer);
  return course;
}

bool is_moment(const std::string& name) {
  return !name.ends_with(".master");
}

}  // namespace

BOOST_AUTO_TEST_CASE(losses_of_150_steps_are_those_of_moments_in_f32) {
  for (const auto precision : {Precision::fp32, Precision::bf16, Precision::fp16}) {
    const auto wide = follow(lesson_of(150, Dtype::f32, precision), {"alone"});
    const auto narrow = follow(lesson_of(150, Dtype::bf16, precision), {"alone"});
    BOOST_TEST(wide.losses.back() < 0.8 * wide.losses.front());
    BOOST_TEST(narrow.optimizer != wide.optimizer);
    // A step is off by some 2^-9 of itself, in either direction, and so are weights that have come far by much less;
    // bf16's compute turns them to neighbours then, as where a layout changes roundings (5e-3 of a loss).
    double drift = 0;
    for (std::size_t s = 0; s < wide.losses.size(); ++s) drift += (narrow.losses[s] / wide.losses[s] - 1) / 150;
    const double worst = worst_ratio(narrow.losses, wide.losses), band = precision == Precision::bf16 ? 5e-3 : 1e-3;
    BOOST_TEST(worst <= band, name_of(precision) << ": losses differ by " << worst);
    BOOST_TEST(std::abs(drift) <= band / 10, name_of(precision) << ": a drift of " << drift);
  }
}

BOOST_AUTO_TEST_CASE(a_resume_goes_on_to_the_bit_and_may_change_the_moments) {
  for (const auto precision : {Precision::fp32, Precision::bf16}) {
    std::map<Dtype, Course> straight, saved;
    for (const Dtype moments : {Dtype::f32, Dtype::bf16}) {
      straight[moments] = follow(lesson_of(6, moments, precision), {"alone"});
      saved[moments] = follow(lesson_of(3, moments, precision), {"alone"});
      const auto again = resumed(lesson_of(6, moments, precision), moments, 3);
      const auto& whole = straight[moments];
      BOOST_TEST((again.weights == whole.weights && again.optimizer == whole.optimizer), name_of(precision));
      BOOST_TEST(again.losses == std::vector(whole.losses.begin() + 3, whole.losses.end()));
    }
    // The other moments: nothing is lost on the way to f32, and to bf16 they are rounded.
    BOOST_TEST(
        (resumed(lesson_of(3, Dtype::bf16, precision), Dtype::f32, 3).optimizer == saved[Dtype::bf16].optimizer));
    for (const auto& [name, values] : resumed(lesson_of(3, Dtype::f32, precision), Dtype::bf16, 3).optimizer) {
      auto expected = saved[Dtype::f32].optimizer.at(name);
      if (is_moment(name))
        for (float& x : expected) x = bf16(x);
      BOOST_TEST(values == expected, name);
    }
    for (const Dtype moments : {Dtype::f32, Dtype::bf16}) {
      const Dtype other = moments == Dtype::f32 ? Dtype::bf16 : Dtype::f32;
      const auto changed = resumed(lesson_of(6, moments, precision), other, 3);
      const auto& whole = straight[moments];
      // Three steps on moments that are 2^-9 off.
      BOOST_TEST(worst_ratio(changed.losses, {whole.losses.begin() + 3, whole.losses.end()}) <= 1e-3);
    }
  }
}

BOOST_AUTO_TEST_CASE(files_hold_moments_as_they_are_kept_and_masters_in_f32) {
  for (const Dtype moments : {Dtype::f32, Dtype::bf16}) {
    auto section = adamw();
    section.moments = moments;
    const Trainee trainee(tiny_model(vocabulary), section, Precision::bf16);
    for (const auto& part : trainee.step.optimizer_state())
      BOOST_TEST((part.dtype == (is_moment(part.name) ? moments : Dtype::f32)), part.name);
  }
}

BOOST_AUTO_TEST_CASE(what_bf16_cannot_follow_is_refused) {
  const auto refusal = [](const std::string& name, std::array<double, 2> betas, Dtype moments = Dtype::bf16) {
    auto section = adamw();
    section.name = name;
    section.betas = betas;
    section.moments = moments;
    return message_of([&] { Trainee(tiny_model(vocabulary), section, Precision::bf16); });
  };
  const std::string beta =
      "optimizer.moments: bf16 isn't possible with optimizer.betas above 0.99, found 0.999: a step would change a "
      "moment by less than bf16 can tell, and it would stand still; choose fp32 or smaller betas";
  BOOST_TEST(refusal("adamw", {0.9, 0.999}) == beta);
  BOOST_TEST(refusal("adamw", {0.999, 0.95}) == beta);
  BOOST_TEST(refusal("muon", {0.9, 0.95}) ==
             "optimizer.moments: bf16 isn't possible with optimizer.name: muon, only with adamw; choose fp32");
  BOOST_TEST(refusal("adamw", {0.99, 0.99}) == "no UserError");
  BOOST_TEST(refusal("adamw", {0.9, 0.999}, Dtype::f32) == "no UserError");
}
