import CoreGraphics
import Foundation
import TensorFlowLite

/// Classifies images with a LiteRT file that keras_kd exported, with float32 inputs and outputs. For one thread.
final class Classifier {
  // (pixel - mean) / std is the input of the model; here 0..1, the recipe's data.value_range.
  private static let mean: Float = 0
  private static let std: Float = 255

  private let interpreter: Interpreter
  private let labels: [String]

  init(model: String = "student_float32") throws {
    guard let file = Bundle.main.path(forResource: model, ofType: "tflite"),
      let list = Bundle.main.url(forResource: "labels", withExtension: "txt")
    else { throw CocoaError(.fileNoSuchFile) }
    labels = try String(contentsOf: list, encoding: .utf8).components(separatedBy: "\n")
    interpreter = try Interpreter(modelPath: file)
    try interpreter.allocateTensors()
  }

  /// The label of the highest score, and the score: a logit or a probability, whatever the model computes.
  func classify(_ image: CGImage) throws -> (label: String, score: Float) {
    let shape = try interpreter.input(at: 0).shape.dimensions  // [1, height, width, channels]
    let pixels = Self.pixels(of: image, height: shape[1], width: shape[2], channels: shape[3])
    let values = pixels.map { (Float($0) - Self.mean) / Self.std }
    try interpreter.copy(values.withUnsafeBufferPointer { Data(buffer: $0) }, toInputAt: 0)
    try interpreter.invoke()
    let scores = try interpreter.output(at: 0).data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    let best = scores.indices.max { scores[$0] < scores[$1] }!
    return (labels[best], scores[best])
  }

  /// The values 0..255 in the order of the input.
  private static func pixels(of image: CGImage, height: Int, width: Int, channels: Int) -> [UInt8] {
    let isGray = channels == 1
    let stride = isGray ? 1 : 4
    let context = CGContext(
      data: nil, width: width, height: height, bitsPerComponent: 8, bytesPerRow: width * stride,
      space: isGray ? CGColorSpaceCreateDeviceGray() : CGColorSpaceCreateDeviceRGB(),
      bitmapInfo: isGray ? CGImageAlphaInfo.none.rawValue : CGImageAlphaInfo.noneSkipLast.rawValue)!
    context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
    let bytes = UnsafeRawBufferPointer(start: context.data!, count: width * height * stride)
    return bytes.enumerated().filter { $0.offset % stride < channels }.map { $0.element }
  }
}
