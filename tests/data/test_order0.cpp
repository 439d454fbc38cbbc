#include <boost/test/unit_test.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/corpus/pipeline/order0.h"

using dujiang::data::Order0;

BOOST_AUTO_TEST_CASE(code_length_follows_the_training_frequencies) {
  Order0 model;
  model.add_training("aaab");  // 4 characters, 2 kinds: 6 counts with the escape's 2
  model.add_held_out("ab");
  const double expected = (std::log2(6.0 / 3.0) + std::log2(6.0 / 1.0)) / 2;
  BOOST_TEST(model.bits_per_byte() == expected, boost::test_tools::tolerance(1e-12));  // the same few operations
}

BOOST_AUTO_TEST_CASE(characters_never_seen_cost_an_escape_and_a_scalar) {
  Order0 model;
  model.add_training("aaab");
  model.add_held_out("都");  // three bytes
  const double expected = (std::log2(6.0 / 2.0) + std::log2(1112064.0)) / 3;
  BOOST_TEST(model.bits_per_byte() == expected, boost::test_tools::tolerance(1e-12));
}

BOOST_AUTO_TEST_CASE(without_training_text_every_scalar_costs_the_same) {
  Order0 model;
  model.add_held_out("xy");
  BOOST_TEST(model.bits_per_byte() == std::log2(1112064.0), boost::test_tools::tolerance(1e-12));
}

BOOST_AUTO_TEST_CASE(without_held_out_text_there_is_no_figure) {
  Order0 model;
  model.add_training("a");
  BOOST_TEST(model.bits_per_byte() == 0.0);
}

BOOST_AUTO_TEST_CASE(parts_add_up_to_the_whole_also_through_json) {
  Order0 whole, left, right;
  for (Order0* part : {&whole, &left}) part->add_training("都江堰分水"), part->add_held_out("江水");
  for (Order0* part : {&whole, &right}) part->add_training("深淘滩，低作堰"), part->add_held_out("堰低");
  left += nlohmann::json::parse(nlohmann::json(right).dump()).get<Order0>();
  BOOST_TEST(left.bits_per_byte() == whole.bits_per_byte());
  BOOST_TEST(left.training_chars() == 12);
  BOOST_TEST(left.held_out_chars() == 4);
}
