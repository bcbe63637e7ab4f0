// Classifies images with LiteRT for Microcontrollers.
#ifndef CLASSIFIER_H_
#define CLASSIFIER_H_

#include <cstddef>
#include <cstdint>

// Loads the model; false if that fails, with a message in TFLM's log. Call it once.
bool SetUpClassifier();

// The number of raw values that the model takes, height * width * channels.
std::size_t NumRawValues();

// The class of the highest score, an index of model::kLabels; -1 on an error.
int Classify(const std::uint8_t* raw_values);

// How much of model::kArenaBytes is in use.
std::size_t ArenaUsedBytes();

#endif  // CLASSIFIER_H_
