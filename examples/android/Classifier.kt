package com.example.classifier

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Color
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.roundToInt
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor

// (pixel - MEAN) / STD is the input of the model; here 0..1, the recipe's data.value_range.
private const val MEAN = 0f
private const val STD = 255f

/** Classifies images with a LiteRT file that keras_kd exported, in float32 or int8. For one thread. */
class Classifier(context: Context, model: String = "student_int8.tflite") : AutoCloseable {
  private val labels = context.assets.open("labels.txt").bufferedReader().use { it.readLines() }
  private val interpreter =
    context.assets.open(model).use { Interpreter(directBuffer(it.readBytes()), Interpreter.Options().setNumThreads(4)) }
  private val input = interpreter.getInputTensor(0)
  private val output = interpreter.getOutputTensor(0)

  /** The label of the highest score, and the score: a logit or a probability, whatever the model computes. */
  fun classify(image: Bitmap): Pair<String, Float> {
    val inputs = directBuffer(ByteArray(input.numBytes()))
    val outputs = directBuffer(ByteArray(output.numBytes()))
    pixels(image).forEach { inputs.write((it - MEAN) / STD, input) }
    inputs.rewind()
    interpreter.run(inputs, outputs)
    outputs.rewind()
    val scores = FloatArray(output.numElements()) { outputs.read(output) }
    val best = scores.indices.maxBy { scores[it] }
    return labels[best] to scores[best]
  }

  override fun close() = interpreter.close()

  /** The values 0..255 in the order of the input, [1, height, width, channels]. */
  private fun pixels(image: Bitmap): List<Float> {
    val (_, height, width, channels) = input.shape()
    val colors = IntArray(width * height)
    Bitmap.createScaledBitmap(image, width, height, true).getPixels(colors, 0, width, 0, 0, width, height)
    return colors.flatMap {
      val rgb = listOf(Color.red(it), Color.green(it), Color.blue(it)).map(Int::toFloat)
      if (channels == 1) listOf(0.299f * rgb[0] + 0.587f * rgb[1] + 0.114f * rgb[2]) else rgb
    }
  }
}

private fun directBuffer(bytes: ByteArray): ByteBuffer {
  val buffer = ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder()).put(bytes)
  buffer.rewind()
  return buffer
}

private fun ByteBuffer.write(value: Float, tensor: Tensor) {
  val quantization = tensor.quantizationParams()
  when (tensor.dataType()) {
    DataType.FLOAT32 -> putFloat(value)
    DataType.INT8 -> put(((value / quantization.scale).roundToInt() + quantization.zeroPoint).coerceIn(-128, 127).toByte())
    else -> error("${tensor.name()} is ${tensor.dataType()}: export the model as float32 or int8")
  }
}

private fun ByteBuffer.read(tensor: Tensor): Float {
  val quantization = tensor.quantizationParams()
  return when (tensor.dataType()) {
    DataType.FLOAT32 -> getFloat()
    DataType.INT8 -> quantization.scale * (get() - quantization.zeroPoint)
    else -> error("${tensor.name()} is ${tensor.dataType()}: export the model as float32 or int8")
  }
}
