#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <string>

#include "ops/cpu/isa.h"
#include "ops/elementwise.h"
#include "tests/support/views.h"

using namespace dujiang;

BOOST_AUTO_TEST_CASE(an_empty_slot_names_op_and_device) {
  Stream npu(Device{DeviceType::npu, 0});
  const auto x = test::random(Dtype::f32, {2}, 1);
  BOOST_CHECK_EXCEPTION(ops::copy(npu, x, x), Error, [](const Error& error) {
    return std::string(error.what()) == "op copy: no kernel for device npu";
  });
}

BOOST_AUTO_TEST_CASE(a_second_registration_throws) {
  BOOST_CHECK_THROW(ops::copy.add(DeviceType::cpu, [](Stream&, const View&, const View&) {}), Error);
}

BOOST_AUTO_TEST_CASE(bad_arguments_name_op_shapes_and_dtypes) {
  Stream cpu{Device{}};
  const auto x = test::random(Dtype::bf16, {2, 3}, 1), y = test::random(Dtype::f16, {2, 3}, 1);
  BOOST_CHECK_EXCEPTION(ops::add(cpu, x, y, y), Error, [](const Error& error) {
    const std::string what = error.what();
    return what.find("op add") == 0 && what.find("bf16[2, 3]") != what.npos && what.find("f16[2, 3]") != what.npos;
  });
}

BOOST_AUTO_TEST_CASE(the_cap_of_the_instruction_set_holds) {
  const char* cap = std::getenv("DUJIANG_ISA");
  if (cap == nullptr) return;
  for (auto isa : {ops::cpu::Isa::baseline, ops::cpu::Isa::avx2, ops::cpu::Isa::avx512, ops::cpu::Isa::avx512_bf16,
                   ops::cpu::Isa::amx})
    if (ops::cpu::name_of(isa) == cap) BOOST_TEST((ops::cpu::isa() <= isa));
}
